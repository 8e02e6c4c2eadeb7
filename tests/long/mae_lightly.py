"""A masked autoencoder trained through lightly's parts: a rival made by another library.

    python tests/long/mae_lightly.py DATA OUT.pth

DATA/train holds the embedded digits. Steps, images a step, optimiser and schedule are those of
pretrain/embedded.py; mask ratio 0.75 and targets normalised by patch are MAE's (He et al. 2022). The
decoder is small, as the encoder is: two blocks of half its width. An encoded image costs 17 tokens
of the encoder and 65 of the decoder, together somewhat less than the 34 of a MiCL step.
"""

import math
import sys
import warnings
from pathlib import Path

import torch
from lightly.models.modules import MaskedVisionTransformerDecoderTIMM, MaskedVisionTransformerTIMM
from lightly.models.modules.masked_vision_transformer_timm import init_weights
from lightly.models.utils import get_at_index, patchify, random_token_mask, set_at_index
from torch import Tensor, nn

from micl_bench.backbone import named_arch
from micl_bench.data.folder import open_folder
from micl_bench.data.pixels import IMAGENET_MEAN, Pixels, normalise
from micl_bench.data.stream import steps_per_epoch
from micl_bench.engine.supervised.augment import AugmentConfig, augmented_batches

EPOCHS, BATCH, WARMUP_EPOCHS, PEAK = 28, 64, 3, 2e-3 * 64 / 256
MASK_RATIO, PATCH = 0.75, 4


class MAE(nn.Module):
    """Names as in lightly's own example."""

    def __init__(self) -> None:
        super().__init__()
        vit = named_arch("vit_demo_patch4_32").build()
        self.sequence_length = 1 + vit.patch_embed.num_patches
        self.backbone = MaskedVisionTransformerTIMM(vit=vit)
        width = vit.embed_dim // 2
        self.decoder_embed = nn.Linear(vit.embed_dim, width)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=vit.patch_embed.num_patches, embed_dim=width, depth=2, num_heads=4
        )
        self.prediction_head = nn.Linear(width, 3 * PATCH**2)
        # lightly leaves these two to its user.
        self.decoder_embed.apply(init_weights)
        self.prediction_head.apply(init_weights)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """The mean squared error of the hidden patches' normalised pixels."""
        size = (len(images_NCHW), self.sequence_length)
        kept, hidden = random_token_mask(size, mask_ratio=MASK_RATIO)
        encoded = self.decoder_embed(self.backbone.encode(images_NCHW, idx_keep=kept))
        empty = encoded.new_zeros(*size, encoded.shape[2])
        decoded = self.decoder(set_at_index(empty, kept, encoded), idx_mask=hidden)
        predicted = self.prediction_head(get_at_index(decoded, hidden))
        # Patches are counted without [CLS].
        target = get_at_index(patchify(images_NCHW, PATCH), hidden - 1)
        target = (target - target.mean(-1, keepdim=True)) / (
            target.var(-1, keepdim=True) + 1e-6
        ).sqrt()
        return nn.functional.mse_loss(predicted, target)


def train(data: Path, out: Path) -> float:
    """Train, write `{"state_dict": ...}` as Lightning does, return the last epoch's mean loss."""
    torch.manual_seed(42)
    folder, pixels = open_folder(data / "train"), Pixels(img_size=32, crop_pct=1.0)
    per_epoch = steps_per_epoch(folder, BATCH)
    model, total, warmup = MAE(), EPOCHS * per_epoch, WARMUP_EPOCHS * per_epoch
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.05)
    losses = []
    plain = AugmentConfig(rand_augment="", erase_probability=0.0)
    options = {"mean": IMAGENET_MEAN, "batch_size": BATCH, "seed": 42, "steps": range(total)}
    for step, batch in enumerate(augmented_batches(folder, pixels, plain, **options)):
        half_cosine = 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        rate = PEAK * ((step + 1) / warmup if step < warmup else half_cosine)
        optimizer.param_groups[0]["lr"] = rate
        loss = model(normalise(batch.images))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    torch.save({"state_dict": model.state_dict()}, out)
    return sum(losses[-per_epoch:]) / per_epoch


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    print(train(Path(sys.argv[1]), Path(sys.argv[2])))

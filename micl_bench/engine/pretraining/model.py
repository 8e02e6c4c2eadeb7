"""What is pre-trained: a backbone and what its objective adds, from pixels to rows of the loss; on one
device, replicated (DDP) or sharded (FSDP2)."""

from typing import Any

import torch
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from micl_bench.backbone import view_features
from micl_bench.data.pixels import IMAGENET_MEAN, IMAGENET_STD
from micl_bench.objectives import Objective
from micl_bench.runs.parallel import WHOLE, replicate

# Up to this many tokens a view, in bfloat16 on a CPU, batched products beat torch's attention
# kernel: it is made for long sequences, and took 30 % of a step of 10-token views in a profile on a
# processor with bfloat16 instructions. In fp32 it is the faster one at these lengths too.
_SHORT_VIEW = 64


class PretrainingModel(nn.Module):
    """A ViT under `vit`, and what the objective adds to it, drawn by the seed, under `added`.

    One module, so that DDP and FSDP see one forward pass, and one state holds all that is trained.
    """

    def __init__(
        self,
        objective: Objective,
        vit: VisionTransformer,
        *,
        precision: str = "fp32",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.objective, self.vit, self.precision = objective, vit, precision
        with torch.random.fork_rng(devices=[]):
            # Not torch.manual_seed, which also reaches for every GPU.
            torch.default_generator.manual_seed(seed)
            self.added = objective.added(vit)
        self.mean_P: Tensor
        self.std_P: Tensor
        per_channel = vit.patch_embed.proj.weight[0, 0].numel()
        for name, values in (("mean_P", IMAGENET_MEAN), ("std_P", IMAGENET_STD)):
            value_P = torch.tensor(values).mul(255).repeat_interleave(per_channel)
            self.register_buffer(name, value_P, persistent=False)

    def forward(self, visible_NMP: Tensor, keep_NVK: Tensor, *, features: bool = False) -> Tensor:
        """The objective's rows, one per image, of pixels 0 .. 255 (uint8 or floating) at
        `keep_NVK`; with `features` [CLS] of each view in fp32 instead, features_NVD: what the
        backbone alone gives."""
        device = visible_NMP.device.type
        self._choose_attention(device, keep_NVK.shape[2] + 1)
        # One new tensor, not three: fresh memory costs more than the arithmetic.
        pixels_NMP = torch.sub(visible_NMP, self.mean_P).div_(self.std_P)
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
            if features:
                return view_features(self.vit, pixels_NMP, keep_NVK)
            return self.objective.encode(self.vit, self.added, pixels_NMP, keep_NVK)

    def _choose_attention(self, device: str, tokens: int) -> None:
        products = device == "cpu" and self.precision == "bf16" and tokens <= _SHORT_VIEW
        for block in self.vit.blocks:
            attention: Any = block.attn
            attention.fused_attn = not products


def distribute(
    model: PretrainingModel, *, parallel: str, compile_blocks: bool, checkpoint_activations: bool
) -> nn.Module:
    """The model as one of this process's peers, to be called like the model itself: `ddp` or `fsdp`; one
    process that nobody started as one of several needs neither."""
    vit = model.vit
    vit.set_grad_checkpointing(checkpoint_activations)
    if compile_blocks:
        # Block by block: they share one compiled program, and the wrappers below stay outside.
        for block in vit.blocks:
            block.compile()
    if not torch.distributed.is_initialized():
        return model
    if parallel == "fsdp":
        for block in vit.blocks:
            fully_shard(block)
        fully_shard(model)
        return model
    return replicate(model, model.mean_P.device)


def model_of(model: nn.Module) -> PretrainingModel:
    """What `distribute` was given."""
    return model.module if isinstance(model, DistributedDataParallel) else model  # type: ignore[return-value]


def whole_weights(model: nn.Module) -> dict[str, Any]:
    """The ViT's weights as whole tensors; every process must call it."""
    weights = get_model_state_dict(model, options=WHOLE)
    return {
        name.removeprefix("vit."): tensor
        for name, tensor in weights.items()
        if name.startswith("vit.")
    }

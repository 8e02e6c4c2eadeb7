"""Supervised training of a whole ViT: what fine-tuning and training from scratch share."""

import dataclasses

import torch
import torch.nn.functional as F
from timm.models import VisionTransformer

from micl_bench.data.folder import Folder
from micl_bench.data.pixels import Pixels, normalise
from micl_bench.data.stream import steps_per_epoch, training_batches
from micl_bench.engine.optim import OptimConfig, build_optimizer, learning_rate, set_rate
from micl_bench.errors import InputError
from micl_bench.log import Progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupervisedConfig:
    """Length, batch and loss of supervised training."""

    optim: OptimConfig
    epochs: int
    batch_size: int
    label_smoothing: float = 0.1

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not 0 <= self.label_smoothing < 1:
            raise InputError(
                f"epochs {self.epochs}, batch_size {self.batch_size}, label_smoothing "
                f"{self.label_smoothing}; needed: epochs, batch_size >= 1, 0 <= label_smoothing < 1"
            )


def train_classifier(
    model: VisionTransformer,
    folder: Folder,
    pixels: Pixels,
    config: SupervisedConfig,
    *,
    device: torch.device,
    seed: int,
    num_workers: int = 0,
    label: str,
) -> None:
    """Train in place and leave the model in eval mode.

    Raises:
        InputError: too few images for a batch, or a loss that is not finite.
    """
    per_epoch = steps_per_epoch(folder, config.batch_size)
    total = config.epochs * per_epoch
    optimizer = build_optimizer(model, config.optim)
    # Drop path draws from torch's own generator.
    torch.manual_seed(seed)
    batches = training_batches(
        folder,
        pixels,
        batch_size=config.batch_size,
        seed=seed,
        steps=range(total),
        num_workers=num_workers,
    )
    model.train()
    with Progress(label, total=total) as progress:
        for step, batch in enumerate(batches):
            rate = learning_rate(
                step,
                peak=config.optim.base_lr * config.batch_size / 256,
                warmup_steps=round(config.optim.warmup_epochs * per_epoch),
                total_steps=total,
            )
            set_rate(optimizer, rate)
            logits_NC = model(normalise(batch.images.to(device)))
            labels_N = batch.labels.to(device)
            loss = F.cross_entropy(logits_NC, labels_N, label_smoothing=config.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if config.optim.clip_norm:
                torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip_norm)
            optimizer.step()
            if not torch.isfinite(loss):
                raise InputError(f"the loss is not finite at step {step + 1}; lower optim.base_lr")
            progress.step(f"loss {loss.item():.3f}")
    model.eval()

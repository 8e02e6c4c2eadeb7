"""Features of any images as one `.npz` file.

features    (N, D) fp32: [CLS], or the mean patch; (N, T, D) for all tokens: [CLS], registers, patches
files       (N,) names relative to the folder
labels      (N,) int64, where the images are in class folders
classes     (C,) names of the classes, likewise
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from micl_bench.checkpoints import Checkpoint
from micl_bench.data.checked import Watch, look_at
from micl_bench.data.pixels import Pixels
from micl_bench.data.source import open_images
from micl_bench.engine.frozen.features import run_over_folder
from micl_bench.runs.precision import at_precision
from micl_bench.runtime.distributed import rank
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_path

POOLS = ("cls", "avg", "tokens")


def export_features(
    checkpoint: Checkpoint,
    images: Path,
    out: Path,
    *,
    pool: str,
    pixels: Pixels,
    precision: str,
    device: torch.device,
    **options: int,
) -> tuple[int, ...]:
    """Write the file; equal calls give equal bytes. Returns the features' shape.

    Everything is after the final norm, of whole images: nothing is masked. `options` are `batch_size`
    and `num_workers`, as `outputs_by_slice` takes them.

    Raises:
        InputError: no such pooling, no images, an unreadable one, a precision that did not run,
            features that are not finite, or `out` is a folder.
    """
    if out.is_dir():
        raise InputError(f"{out} is a folder; give the name of the .npz file to write")
    if pool not in POOLS:
        raise InputError(f"pool is {pool!r}; allowed: {', '.join(POOLS)}")
    if pool == "cls" and not checkpoint.arch.class_token:
        raise InputError(f"{checkpoint.arch.name} has no [CLS]; use --pool avg")
    source, labelled = open_images(images)
    unchanged = Watch(source)
    look_at(source)
    model = checkpoint.backbone(img_size=pixels.img_size).to(device)

    def read(images_NCHW: Tensor) -> Tensor:
        tokens_NTD = model.forward_features(checkpoint.normalise(images_NCHW)).float()
        if pool == "tokens":
            return tokens_NTD
        patches_NLD = tokens_NTD[:, model.num_prefix_tokens :]
        return tokens_NTD[:, 0] if pool == "cls" else patches_NLD.mean(dim=1)

    with at_precision(precision, model, device) as watch:
        features, labels_N = run_over_folder(
            read, source, pixels, device=device, label="features", **options
        )
        watch.seen()
    unchanged.require_unchanged()
    if not features.isfinite().all():
        raise InputError(f"{checkpoint.info.source} gives features that are not finite")
    arrays = {"features": features.numpy(), "files": np.array(source.names)}
    if labelled:
        arrays |= {"labels": labels_N.numpy(), "classes": np.array(source.classes)}
    if rank() == 0:
        with atomic_path(out) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    return tuple(features.shape)

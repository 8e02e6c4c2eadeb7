"""Similarities of masked views of one image, and of views of different images.

Shapes: N images, V views, D width, B bins, E = B + 1 edges.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from timm.models import VisionTransformer
from torch import Tensor

from micl_bench.backbone import Arch
from micl_bench.checkpoints import Checkpoint
from micl_bench.data.pixels import Pixels
from micl_bench.data.source import Source
from micl_bench.data.stream import evaluation_batches
from micl_bench.data.visible import Patches
from micl_bench.engine.frozen.pictures.network_pictures import Arrays, spread
from micl_bench.engine.pretraining.model import ViewEncoder
from micl_bench.losses import tsp_similarity
from micl_bench.runs.precision import at_precision
from micl_bench.runtime.errors import InputError

_BINS = 80
_BATCH = 128


def features_of_views(
    checkpoint: Checkpoint,
    source: Source,
    wants: Callable[[Arch], Patches],
    pixels: Pixels,
    *,
    precision: str,
    seed: int,
    number: int,
    device: torch.device,
) -> Tensor:
    """[CLS] of each view, features_NVD in fp32, of at most `number` images spread evenly over a source.

    Images are cropped as for evaluation.

    Args:
        wants: the views of an image for an architecture; those of the first epoch are taken.
        precision: of the backbone, `fp32` or `bf16`.
        seed: of the views.

    Raises:
        InputError: the network is no plain ViT, fewer than two images, no patch left for a view, an
            unreadable image.
    """
    # Other kinds do not encode parts of an image so.
    if not checkpoint.arch.is_plain:
        raise InputError(
            f"{checkpoint.info.source} is no plain ViT with [CLS], which masked views take; "
            "checkpoints that `micl-bench pretrain` makes are"
        )
    index_N = spread(len(source), number)
    if len(index_N) < 2:
        raise InputError(f"{source.root} has {len(source)} image; similarities take two or more")
    views = wants(dataclasses.replace(checkpoint.arch, img_size=pixels.img_size))
    vit, content = checkpoint.backbone(img_size=pixels.img_size), checkpoint.content
    assert isinstance(vit, VisionTransformer)
    model = ViewEncoder(vit, precision=precision, mean=content.mean, std=content.std)
    model = model.to(device).eval()
    parts, done = [], 0
    with torch.inference_mode(), at_precision(precision, model, device):
        for batch in evaluation_batches(source, pixels, batch_size=_BATCH, index_N=index_N):
            numbers_n = index_N[done : done + len(batch.images)]
            seen = views.of_images(batch.images.to(device), numbers_n, seed=seed)
            parts.append(model(seen).cpu())
            done += len(batch.images)
    return torch.cat(parts)


def cosines(features_NVD: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines of all ordered pairs of different views: of one image, and of different images.

    These are the pairs that the loss contrasts: N V (V - 1) and N (N - 1) V (V - 1) of them.
    """
    unit_VND = F.normalize(features_NVD.float(), dim=-1).transpose(0, 1)
    V, N, _ = unit_VND.shape
    same_NN = torch.eye(N, dtype=torch.bool)
    positive, negative = [], []
    for a in range(V):
        for b in range(V):
            if a != b:
                cosine_NN = unit_VND[a] @ unit_VND[b].T
                positive.append(cosine_NN[same_NN])
                negative.append(cosine_NN[~same_NN])
    return torch.cat(positive), torch.cat(negative)


def similarity_arrays(features_NVD: Tensor, *, kappa: float) -> Arrays:
    """The arrays of a picture: counts of positive and negative similarities in equal bins.

    `cosine_edges_E`, `cosine_positive_B`, `cosine_negative_B`, the same with `tsp` (T-SP similarity),
    the two means of each, and `kappa`, `images`, `views`.
    """
    positive, negative = cosines(features_NVD)
    arrays: Arrays = {
        "kappa": np.array(kappa),
        "images": np.array(features_NVD.shape[0]),
        "views": np.array(features_NVD.shape[1]),
    }
    for name, pair in (
        ("cosine", (positive, negative)),
        ("tsp", (tsp_similarity(positive, kappa), tsp_similarity(negative, kappa))),
    ):
        arrays |= _histograms(name, *(values.double().numpy() for values in pair))
    return arrays


def _histograms(name: str, positive: NDArray[np.float64], negative: NDArray[np.float64]) -> Arrays:
    both = np.concatenate([positive, negative])
    edges_E = np.histogram_bin_edges(both, bins=_BINS)
    return {
        f"{name}_edges_E": edges_E,
        f"{name}_positive_B": np.histogram(positive, edges_E)[0],
        f"{name}_negative_B": np.histogram(negative, edges_E)[0],
        f"{name}_means": np.array([positive.mean(), negative.mean()]),
    }

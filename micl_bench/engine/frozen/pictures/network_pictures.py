"""The few images that pictures show, the attention of the last block to them, and patches as colours.

Shapes: N images, C colours, H, W pixels, J heads, T tokens, L patches, M tokens of all images, D width,
Y, X places of the patch grid.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micl_bench.backbone import Vit
from micl_bench.checkpoints import Checkpoint
from micl_bench.data.pixels import Pixels
from micl_bench.data.source import Source
from micl_bench.data.stream import evaluation_batches
from micl_bench.runs.precision import at_precision
from micl_bench.runtime.errors import InputError

Arrays = dict[str, NDArray[Any]]
"""The arrays that a picture is drawn from, by name; the ends of the names are the axes."""

T = TypeVar("T")

_COMPONENTS = 3
CLASS_QUERY, MEAN_QUERY = "[CLS]", "the mean patch"


def spread(available: int, number: int) -> NDArray[np.int64]:
    """At most `number` indices below `available`, evenly from the first to the last."""
    return np.linspace(0, available - 1, min(number, available)).astype(np.int64)


def chosen_images(source: Source, pixels: Pixels, number: int) -> tuple[Tensor, list[str]]:
    """At most `number` images, spread evenly over a source: uint8 images_NCHW, and their names."""
    index_N = spread(len(source), number)
    batches = evaluation_batches(source, pixels, batch_size=len(index_N), index_N=index_N)
    (batch,) = batches
    return batch.images, [str(source.names[i]) for i in index_N]


@torch.inference_mode()
def seen_by(
    checkpoint: Checkpoint,
    images_NCHW: Tensor,
    read: Callable[[Vit, Tensor], T],
    *,
    device: torch.device,
) -> T:
    """`read(vit, images)` of the backbone at the size of the uint8, square images, in fp32, with its own
    normalisation."""
    vit = checkpoint.backbone(img_size=images_NCHW.shape[-1]).to(device)
    with at_precision("fp32", vit, device):
        return read(vit, checkpoint.normalise(images_NCHW.to(device)))


def as_pictures(images_NCHW: Tensor) -> NDArray[np.uint8]:
    """images_NHWC, contiguous and on the CPU."""
    return np.ascontiguousarray(images_NCHW.permute(0, 2, 3, 1).cpu().numpy())


def last_attention(vit: Vit, images_NCHW: Tensor) -> Tensor:
    """Attention weights of the last block on normalised images, attention_NJTT: rows are queries,
    and sum to one.

    They are read where the network's own code has them, after its softmax: whatever a block does to
    queries and keys (biases, norms, rotary or relative positions) is in them.
    """
    module: Any = vit.blocks[-1].attn
    caught: list[Tensor] = []
    hook = module.attn_drop.register_forward_hook(lambda _, __, weights: caught.append(weights))
    fused = module.fused_attn
    try:
        # A fused kernel never has the weights as a whole.
        module.fused_attn = False
        vit.forward_features(images_NCHW)
    finally:
        module.fused_attn = fused
        hook.remove()
    (attention_NJTT,) = caught
    return attention_NJTT


def patch_attention(vit: Vit, images_NCHW: Tensor) -> Tensor:
    """Attention of [CLS] to each patch in the last block, attention_NJL.

    Without [CLS]: the mean over all patches as queries. What goes to [CLS] and registers is left out,
    so that a row sums to one minus their share.
    """
    attention_NJTT, prefix = last_attention(vit, images_NCHW), vit.num_prefix_tokens
    if vit.cls_token is not None:
        return attention_NJTT[:, :, 0, prefix:]
    return attention_NJTT[:, :, prefix:, prefix:].mean(dim=2)


def attention_arrays(
    checkpoint: Checkpoint, images_NCHW: Tensor, *, device: torch.device
) -> Arrays:
    """The arrays of a picture of uint8 images: `images_NHWC`, `attention_NJYX` and the `query`."""
    attention_NJL = seen_by(checkpoint, images_NCHW, patch_attention, device=device)
    side = images_NCHW.shape[-1] // checkpoint.arch.patch_size
    return {
        "images_NHWC": as_pictures(images_NCHW),
        "attention_NJYX": attention_NJL.unflatten(2, (side, side)).float().cpu().numpy(),
        "query": np.array(CLASS_QUERY if checkpoint.arch.class_token else MEAN_QUERY),
    }


def principal_components(tokens_MD: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Scores of M tokens on their first three principal components, and each one's share of variance.

    A component's sign means nothing in itself: it is the one whose largest loading is positive.

    Returns:
        scores_MC and explained_C.
    """
    if min(tokens_MD.shape) < _COMPONENTS:
        raise InputError(f"principal components take {_COMPONENTS} patches, not {len(tokens_MD)}")
    from sklearn.decomposition import PCA

    fitted = PCA(_COMPONENTS, svd_solver="full").fit(tokens_MD)
    loadings_CD = fitted.components_
    largest_C = np.abs(loadings_CD).argmax(axis=1)
    sign_C = np.where(loadings_CD[np.arange(_COMPONENTS), largest_C] < 0, -1.0, 1.0)
    return fitted.transform(tokens_MD) * sign_C, fitted.explained_variance_ratio_


def as_colours(scores_MC: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Each component from its 1st percentile, dark, to its 99th, bright."""
    low_C, high_C = np.percentile(scores_MC, [1, 99], axis=0)
    scaled_MC = (scores_MC - low_C) / np.maximum(high_C - low_C, np.finfo(float).tiny)
    return (scaled_MC.clip(0, 1) * 255).round().astype(np.uint8)


def patch_arrays(checkpoint: Checkpoint, images_NCHW: Tensor, *, device: torch.device) -> Arrays:
    """The arrays of a picture of uint8 images: `images_NHWC`, `colours_NYXC` and `explained`.

    The components are those of all patches of all images together, after the final norm, without
    [CLS] and registers: equal colours in two images are equal features.
    """

    def read(vit: Vit, normalised_NCHW: Tensor) -> Tensor:
        return vit.forward_features(normalised_NCHW)[:, vit.num_prefix_tokens :]

    tokens_NLD = seen_by(checkpoint, images_NCHW, read, device=device)
    side = images_NCHW.shape[-1] // checkpoint.arch.patch_size
    scores_MC, explained_C = principal_components(tokens_NLD.flatten(0, 1).double().cpu().numpy())
    return {
        "images_NHWC": as_pictures(images_NCHW),
        "colours_NYXC": as_colours(scores_MC).reshape(len(images_NCHW), side, side, _COMPONENTS),
        "explained": explained_C,
    }

"""Patch tokens as colours: their first three principal components as red, green and blue.

Shapes: N images, L patches, D width, Y, X places of the patch grid, C = 3 colours.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micl_bench.backbone import Vit
from micl_bench.checkpoints import Checkpoint
from micl_bench.engine.frozen.pictures.network_pictures import Arrays, as_pictures, seen_by
from micl_bench.runtime.errors import InputError

_COMPONENTS = 3


def principal_components(tokens_MD: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Scores of M tokens on their first three principal components, and each one's share of variance.

    A component's sign means nothing in itself: it is the one whose largest loading is positive.

    Returns:
        scores_MC and explained_C.

    Raises:
        InputError: fewer tokens than components.
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

    Raises:
        InputError: the network cannot be brought to the images' size, or too few patches.
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

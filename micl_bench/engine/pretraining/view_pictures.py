"""What each view sees of some images: which images, and the arrays of a picture.

Shapes: N images, V views, K kept patches a view, H, W pixels, C colours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micl_bench.data.any_images import open_images
from micl_bench.data.folder import Folder, read_image
from micl_bench.data.pixels import evaluation_pixels
from micl_bench.data.source import Source
from micl_bench.data.stream import evaluation_batches
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.records.evidence.evidence import write_arrays
from micl_bench.runtime.errors import InputError

_NUM_SAVED = 6


def find_images(folder: Path, *, number: int) -> list[Path]:
    """At most `number` images, spread evenly over a folder of images or of class folders."""
    source, _ = open_images(folder)
    paths = source.files if isinstance(source, Folder) else ()
    if not paths:
        raise InputError(f"{folder} is a packed store, or no files; give a folder of images")
    chosen = np.linspace(0, len(paths) - 1, min(number, len(paths))).astype(int)
    return [paths[i] for i in chosen]


def views_of_images(recipe: PretrainRecipe, paths: Sequence[Path]) -> dict[str, NDArray[Any]]:
    """`views_of_pixels` of image files, cropped as for evaluation."""
    images = [evaluation_pixels(read_image(path), recipe.pixels) for path in paths]
    return views_of_pixels(recipe, torch.stack(images))


def views_of_pixels(recipe: PretrainRecipe, images_NCHW: Tensor) -> dict[str, NDArray[Any]]:
    """The arrays of a picture of uint8 images: `images_NHWC`, `keep_NVK` and `patch_size`.

    The views are those that images of numbers 0 to N - 1 have in the first epoch.
    """
    wants = recipe.objective.build().wants(recipe.sized_arch())
    keep_NVK = wants.draw(recipe.seed, 0, np.arange(len(images_NCHW)))
    return {
        "images_NHWC": images_NCHW.permute(0, 2, 3, 1).numpy(),
        "keep_NVK": keep_NVK.numpy(),
        "patch_size": np.array(wants.patch_size),
    }


def save_views(path: Path, recipe: PretrainRecipe, held_out: Source) -> None:
    """Write the arrays of some images, spread evenly over a source, as `.npz`."""
    chosen_N = np.linspace(0, len(held_out) - 1, _NUM_SAVED).astype(int)
    (batch,) = evaluation_batches(held_out, recipe.pixels, batch_size=_NUM_SAVED, index_N=chosen_N)
    arrays: dict[str, Any] = views_of_pixels(recipe, batch.images)
    write_arrays(path, arrays)

"""The patches of some images that an objective sees, as the arrays of a picture.

Shapes: N images, V views or other parts that the objective names, K patches of the largest of them, H, W
pixels, C colours.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from micl_bench.data.folder import Folder, read_image
from micl_bench.data.pixels import evaluation_pixels
from micl_bench.data.source import Source, open_images
from micl_bench.engine.frozen.pictures.network_pictures import Arrays, chosen_images, spread
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.records.evidence.evidence import write_arrays
from micl_bench.runtime.errors import InputError

_NUM_SAVED = 6


def find_images(folder: Path, *, number: int) -> list[Path]:
    """At most `number` image files, spread evenly over a folder of images or of class folders.

    Raises:
        InputError: there is no image file, or it is a packed store.
    """
    source, _ = open_images(folder)
    paths = source.files if isinstance(source, Folder) else ()
    if not paths:
        raise InputError(f"{folder} is a packed store, or no files; give a folder of images")
    return [paths[i] for i in spread(len(paths), number)]


def views_of_images(recipe: PretrainRecipe, paths: Sequence[Path]) -> Arrays:
    """The arrays of `views_of_pixels` for image files, cropped as for evaluation."""
    images = [evaluation_pixels(read_image(path), recipe.pixels) for path in paths]
    return views_of_pixels(recipe, torch.stack(images))


def views_of_pixels(recipe: PretrainRecipe, images_NCHW: Tensor) -> Arrays:
    """The arrays of a picture of uint8 images: `images_NHWC`, `patch_size`, the patches of each part,
    `keep_NVK`, and the parts' names, `names_V`, where they are not views 1 to V.

    The patches are those that images of numbers 0 to N - 1 have in the first epoch. A part of fewer
    patches than another repeats one. Where views are crops of their own, `crops_NVHWC` has these; local
    ones, which are smaller, are enlarged pixel by pixel.
    """
    objective = recipe.objective.build()
    wants = objective.wants(recipe.sized_arch())
    index_N = np.arange(len(images_NCHW))
    shown = objective.shown(*wants.drawn(recipe.seed, 0, index_N))
    arrays = {
        "images_NHWC": images_NCHW.permute(0, 2, 3, 1).numpy(),
        "keep_NVK": _stacked(shown.values()).numpy(),
        "patch_size": np.array(wants.patch_size),
    }
    if list(shown) != [f"view {v}" for v in range(1, len(shown) + 1)]:
        arrays["names_V"] = np.array(list(shown))
    if wants.crops:
        pictures = [
            group.of_images(images_NCHW, recipe.seed, index_N).images() for group in wants.groups
        ]
        side = pictures[0].shape[-1]
        pictures = [F.interpolate(one, side, mode="nearest-exact") for one in pictures]
        crops_NVCHW = torch.cat([one.unflatten(0, (len(index_N), -1)) for one in pictures], dim=1)
        crops_NVHWC = crops_NVCHW.round().to(torch.uint8).permute(0, 1, 3, 4, 2)
        arrays["crops_NVHWC"] = crops_NVHWC.contiguous().numpy()
    return arrays


def _stacked(parts: Iterable[Tensor]) -> Tensor:
    """Stack the indices (N, K) of parts, of different K, as keep_NVK of the largest of these."""
    sets = list(parts)
    K = max(keep_Nk.shape[1] for keep_Nk in sets)
    return torch.stack([s[:, torch.arange(K).clamp(max=s.shape[1] - 1)] for s in sets], dim=1)


def save_views(path: Path, recipe: PretrainRecipe, held_out: Source) -> None:
    """Write the arrays of some images, spread evenly over a source, as `.npz`."""
    images, _ = chosen_images(held_out, recipe.pixels, _NUM_SAVED)
    write_arrays(path, views_of_pixels(recipe, images))

"""Where images come from: a folder of image files, or a packed store of one."""

from pathlib import Path

import numpy as np

from micl_bench.data.folder import Folder, open_folder
from micl_bench.data.packed.store import Store, is_store, open_store
from micl_bench.data.pixels import Pixels
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import say

Source = Folder | Store


def open_source(root: Path, *, classes: tuple[str, ...] | None = None) -> Source:
    """Open a packed store or an image folder.

    Args:
        classes: the label order to use, from the training images.

    Raises:
        InputError: neither, damaged, or with classes that `classes` lacks.
    """
    if not is_store(root):
        return open_folder(root, classes=classes)
    store = open_store(root)
    if left_out := store.describe().left_out:
        say(f"{root}: {left_out}")
    if classes is not None and store.classes != classes:
        raise InputError(
            f"{root} was packed with other classes than the training images; pack both from one "
            "data set"
        )
    return store


def tell_absent_classes(held_out: Source) -> None:
    """Warn where evaluated images, labelled in training's order, are not of all its classes."""
    there, known = len(np.unique(held_out.labels_N)), len(held_out.classes)
    if there < known:
        say(f"warning: {held_out.root} has images of {there} of the {known} training classes")


def require_pixels(source: Source, pixels: Pixels, *, patch_size: int | None = None) -> None:
    """Raise an InputError unless a source can give these pixels; a folder of images always can.

    Args:
        patch_size: of the patches that training takes out, with the recipe's crop and flip; without
            one, whole images are asked for.
    """
    if not isinstance(source, Store) or source.layout == "image":
        return
    has = [f"size {source.size}", f"crop-pct {source.crop_pct:g}"]
    needs = [f"size {pixels.img_size}", f"crop-pct {pixels.crop_pct:g}"]
    if patch_size is not None:
        has.append(f"patch-size {source.patch_size}")
        needs.append(f"patch-size {patch_size}")
    if has != needs:
        raise InputError(
            f"{source.root} was packed with {', '.join(has)}; the recipe needs {', '.join(needs)}"
        )
    if patch_size is not None and (pixels.crop_scale != (1.0, 1.0) or pixels.flip):
        raise InputError(
            f"{source.root} holds uncropped patches and the recipe crops or flips; pack with "
            "--layout image"
        )

"""Sources of images: class folders, packed stores, plug-ins, and plain image files."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from micl_bench.data.folder import Folder, open_folder
from micl_bench.data.image_files import list_images, shown_name
from micl_bench.data.packed.store import Store, is_store, open_store
from micl_bench.data.pixels import Pixels
from micl_bench.data.sources._adapted import adapted
from micl_bench.runtime import plugins
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import say

KIND = "data.sources"
"""The kind of plug-ins that are image sources."""
Source = Folder | Store


def open_source(root: Path, *, classes: tuple[str, ...] | None = None) -> Source:
    """Open a packed store, an image folder, or a plug-in's images, as `data/sources` describes.

    Args:
        classes: the label order to use, from the training images.

    Raises:
        InputError: there is none of them, it is damaged, or it has classes that `classes` lacks.
    """
    name, place = named_source(root)
    if not name and not is_store(root):
        return open_folder(root, classes=classes)
    found = _ask(name, root, place) if name else open_store(root)
    if isinstance(found, Folder):
        return found if classes is None else found.in_order(classes)
    if left_out := found.describe().left_out:
        say(f"{root}: {left_out}")
    if classes is not None and found.classes != classes:
        raise InputError(
            f"{root} was packed with other classes than the training images; pack both from one "
            "data set"
        )
    return found


def open_images(path: Path) -> tuple[Source, bool]:
    """Open the images at a path, and return whether they have labels.

    Class folders, stores and plug-ins have labels; a folder of images and a single image have none.

    Raises:
        InputError: there is none, or images stand beside class folders.
    """
    if path.is_file():
        return _unlabelled(path.parent, (path,)), False
    if named_source(path)[0] or is_store(path):
        return open_source(path), True
    if not path.is_dir():
        raise InputError(f"no image and no folder at {path}")
    images, found = list_images(path)
    found.require_whole()
    if images and found.classes:
        first = shown_name(images[0]), shown_name(min(found.classes))
        raise InputError(
            f"{path} holds images and folders ({', '.join(first)}); give a folder of images, or one of "
            "class folders"
        )
    if found.classes:
        return open_source(path), True
    if not images:
        more = f" ({found.left_out})" if found.left_out else ""
        raise InputError(f"{path} holds neither images nor class folders{more}")
    if found.left_out:
        say(f"{path}: {found.left_out}")
    return _unlabelled(path, tuple(path / name for name in images), found.left_out), False


def _unlabelled(root: Path, paths: tuple[Path, ...], left_out: str = "") -> Folder:
    labels = (0,) * len(paths)
    return Folder(root=root, classes=("",), paths=paths, labels=labels, left_out=left_out)


def named_source(root: Path) -> tuple[str, Path]:
    """Return the source that `NAME:PLACE` names, and the place; an empty name for a path.

    Raises:
        InputError: there is no such source.
    """
    name, colon, place = str(root).partition(":")
    if not colon or not name.isidentifier() or root.exists():
        return "", root
    if name not in (known := plugins.names(KIND)):
        raise InputError(
            f"{root} is no folder, and no image source is called {name!r}; known: {', '.join(known)}"
        )
    return name, Path(place)


def find_source(name: str) -> ModuleType:
    """Return the module of an image source.

    Raises:
        InputError: there is no such source, or its file defines no function `open_images`.
    """
    return plugins.find(KIND, name, open_images=Callable)


def _ask(name: str, root: Path, place: Path) -> Source:
    module = find_source(name)
    try:
        found = module.open_images(place)
        return found if isinstance(found, Folder | Store) else adapted(root, found)
    except InputError:
        raise
    except Exception as error:
        # Code of others may raise anything.
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{root} cannot be opened by the image source {name} ({reason})"
        ) from error


def warn_of_absent_classes(held_out: Source) -> None:
    """Warn where evaluated images, labelled in training's order, are not of all its classes."""
    there, known = len(np.unique(held_out.labels_N)), len(held_out.classes)
    if there < known:
        say(f"warning: {held_out.root} has images of {there} of the {known} training classes")


def require_pixels(source: Source, pixels: Pixels, *, patch_size: int | None = None) -> None:
    """Raise an InputError unless a source can give these pixels; a folder of images always can.

    Args:
        patch_size: side of the patches that training takes, with the recipe's crop and flip; None for
            whole images.
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

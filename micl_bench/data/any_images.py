"""Images wherever they are: class folders, a packed store, a folder of images, a single image."""

from pathlib import Path

from micl_bench.data.folder import Folder
from micl_bench.data.image_files import list_images, shown_name
from micl_bench.data.packed.store import is_store
from micl_bench.data.source import Source, named_source, open_source
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import say


def open_images(path: Path) -> tuple[Source, bool]:
    """The images at a path, and whether they have labels: class folders, stores and sources do.

    Raises:
        InputError: there is none, or images stand beside class folders.
    """
    if named_source(path)[0]:
        return open_source(path), True
    if path.is_file():
        return _unlabelled(path.parent, (path,)), False
    if not path.is_dir():
        raise InputError(f"no image and no folder at {path}")
    if is_store(path):
        return open_source(path), True
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
    left_out = str(found.left_out)
    if not images:
        more = f" ({left_out})" if left_out else ""
        raise InputError(f"{path} holds neither images nor class folders{more}")
    if left_out:
        say(f"{path}: {left_out}")
    return _unlabelled(path, tuple(path / name for name in images), left_out), False


def _unlabelled(root: Path, paths: tuple[Path, ...], left_out: str = "") -> Folder:
    labels = (0,) * len(paths)
    return Folder(root=root, classes=("",), paths=paths, labels=labels, left_out=left_out)

"""Images wherever they are: class folders, a packed store, a folder of images, a single image."""

from pathlib import Path

from micl_bench.data.folder import SUFFIXES, Folder
from micl_bench.data.source import Source, open_source
from micl_bench.data.store import is_store
from micl_bench.errors import InputError


def open_images(path: Path) -> tuple[Source, bool]:
    """The images at a path, and whether they have labels: class folders and stores do.

    Raises:
        InputError: there is none, or images stand beside class folders.
    """
    if path.is_file():
        return _unlabelled(path.parent, (path,)), False
    if not path.is_dir():
        raise InputError(f"no image and no folder at {path}")
    if is_store(path):
        return open_source(path), True
    images = tuple(sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES))
    folders = [p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")]
    if images and folders:
        raise InputError(
            f"{path} holds images and folders ({images[0].name}, {folders[0].name}); give a folder of "
            "images, or one of class folders"
        )
    if not images and not folders:
        raise InputError(f"{path} holds neither images nor class folders")
    return (_unlabelled(path, images), False) if images else (open_source(path), True)


def _unlabelled(root: Path, paths: tuple[Path, ...]) -> Folder:
    return Folder(root=root, classes=("",), paths=paths, labels=(0,) * len(paths))

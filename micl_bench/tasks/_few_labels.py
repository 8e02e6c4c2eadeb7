"""Which training images a task's labels come from: all, a published list, or a seeded draw."""

import dataclasses
from pathlib import Path
from typing import Any

from micl_bench.data.file_lists import count_by_class, digest_names, drawn_images, listed_images
from micl_bench.data.folder import Folder
from micl_bench.data.source import open_source, tell_absent_classes
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import say
from micl_bench.runtime.values import shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled:
    """The training images whose labels are used, the evaluated images, and what records say of them."""

    train: Folder
    test: Folder
    settings: dict[str, Any]
    details: dict[str, Any]
    words: str
    """For the protocol's line; empty where all labels are used."""


def open_folders(data: Path) -> tuple[Folder, Folder]:
    """`<data>/train` and `<data>/val`, classes in the order of the first.

    Raises:
        InputError: a packed store, a missing folder, an empty class, a class that `train` lacks.
    """
    train = _open_folder(data / "train")
    held_out = _open_folder(data / "val", classes=train.classes)
    tell_absent_classes(held_out)
    return train, held_out


def _open_folder(root: Path, *, classes: tuple[str, ...] | None = None) -> Folder:
    found = open_source(root, classes=classes)
    if not isinstance(found, Folder):
        raise InputError(f"{root} is a packed store; this task reads folders of images only")
    return found


def require_one_way(labels: str, fraction: float) -> None:
    """Raise an InputError for a recipe that asks for a list and a draw."""
    if labels and fraction != 1:
        raise InputError(
            f"labels is {shown(labels)} and fraction {fraction:g}; give one of the two"
        )


def open_labelled(data: Path, *, labels: str, fraction: float, seed: int) -> Labelled:
    """Open `<data>/train` and `<data>/val`.

    Args:
        labels: a file list; empty for none.
        fraction: of each class, drawn by the seed; 1 for all.

    Raises:
        InputError: as `open_folders`, or a list that does not fit.
    """
    every, test = open_folders(data)
    if labels:
        train = listed_images(every, Path(labels))
        setting: Any = {"list": digest_names(train), "images": len(train)}
        words = f"{len(train)} labels of the list {Path(labels).name}"
    elif fraction < 1:
        train = drawn_images(every, fraction, seed=seed)
        setting = {"drawn by seed, share of each class": fraction}
        words = f"{fraction:.3g} of each class's labels, drawn by seed {seed}"
    else:
        train, setting, words = every, "all", ""
    counts = count_by_class(train)
    fewest, most = min(counts.values()), max(counts.values())
    few: dict[str, Any] = {"images": len(train), "fewest of a class": fewest, "most": most}
    if words:
        say(f"{words}: {fewest} to {most} images a class")
        few["by class"] = counts
    return Labelled(
        train=train,
        test=test,
        settings={"labels": setting},
        details={"labels": few},
        words=words,
    )

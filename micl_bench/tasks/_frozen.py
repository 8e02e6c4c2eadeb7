"""The images of tasks that give them to a network, and the words of their records."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from micl_bench.checkpoints import Checkpoint
from micl_bench.data.file_lists import count_by_class, digest_names, drawn_images, listed_images
from micl_bench.data.folder import Folder
from micl_bench.data.pixels import Pixels
from micl_bench.data.source import Source, open_source, warn_of_absent_classes
from micl_bench.engine.frozen.stored import Features
from micl_bench.records.evidence.predictions import Predictions
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import say
from micl_bench.runtime.values import Count, Precision, Seed, Values, Workers, shown


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainRecipe(Values):
    """The reading of images, for a task that has no recipe of its own."""

    pixels: Pixels = Pixels()
    precision: Precision = "fp32"
    """Precision of the backbone: fp32 or bf16."""
    batch_size: Count = 128
    """Images that are read at a time; moves no number."""
    num_workers: Workers = 0
    seed: Seed = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Labelled:
    """The training images whose labels are used, the evaluated images, and their records' words."""

    train: Folder
    test: Folder
    settings: dict[str, Any]
    details: dict[str, Any]
    words: str
    """Words in the protocol's line; empty where all labels are used."""


def open_splits(data: Path) -> tuple[Source, Source]:
    """`<data>/train` and `<data>/val`, folders of images or packed stores, with equal classes."""
    train = open_source(data / "train")
    test = open_source(data / "val", classes=train.classes)
    warn_of_absent_classes(test)
    return train, test


def open_folders(data: Path) -> tuple[Folder, Folder]:
    """Open the splits as `open_splits`, for a task that reads image files.

    Raises:
        InputError: one is a packed store.
    """
    train, test = open_splits(data)
    return _folder(train), _folder(test)


def _folder(found: Source) -> Folder:
    if not isinstance(found, Folder):
        raise InputError(f"{found.root} is a packed store; this task reads folders of images only")
    return found


def require_one_way(labels: str, fraction: float) -> None:
    """Raise an InputError for a recipe that asks for a list and a draw."""
    if labels and fraction != 1:
        raise InputError(
            f"labels is {shown(labels)} and fraction {fraction:g}; give one of the two"
        )


def open_labelled(data: Path, *, labels: str, fraction: float, seed: int) -> Labelled:
    """Open `<data>/train` and `<data>/val`, with all labels, those of a published file list, or a
    fraction of each class's, drawn by the seed."""
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
        say(f"{words}: {fewest} to {most} images per class")
        few["by class"] = counts
    return Labelled(
        train=train,
        test=test,
        settings={"labels": setting},
        details={"labels": few},
        words=words,
    )


def feature_details(**features: Features) -> dict[str, Any]:
    """Details on the stored features behind a number, and whether its `seconds` hold their computing."""
    return {"features": {name: found.origin for name, found in features.items()}}


def readout_words(readout: str, checkpoint: Checkpoint) -> str:
    """A readout of a checkpoint in the words of a protocol's line."""
    if checkpoint.features:
        return checkpoint.features
    return {"cls_1": "[CLS]", "avg_1": "patch mean"}.get(readout, readout)


def classified(folder: Folder, logits_MC: Tensor) -> Predictions:
    """The predictions of every image of a folder: top1, and top5 where there are more than 5 classes."""
    labels_M = torch.from_numpy(folder.labels_N)
    best_M = logits_MC.argmax(dim=1)
    right = {"top1": best_M == labels_M}
    if logits_MC.shape[1] > 5:
        five_M5 = logits_MC.topk(5, dim=1).indices
        right["top5"] = (five_M5 == labels_M[:, None]).any(dim=1)
    return Predictions(
        files=folder.names,
        classes=folder.classes,
        labels_M=folder.labels_N,
        predicted={"top1": best_M.numpy()},
        correct={name: value.to(torch.int8).numpy() for name, value in right.items()},
    )

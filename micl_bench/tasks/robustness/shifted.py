"""A classifier on image folders: the class of each output, and the answer to each image."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from micl_bench.checkpoints import Checkpoint
from micl_bench.data.faults import first
from micl_bench.data.folder import Folder, folder_of
from micl_bench.data.image_files import list_classes
from micl_bench.data.pixels import Pixels
from micl_bench.engine.frozen.features import run_over_folder
from micl_bench.robustness import RobustnessSet, right_answers
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.wording import counted

Reading = tuple[int, ...]
"""The outputs among which the largest logit is looked for, ascending."""
Predict = Callable[[Folder, Pixels, Sequence[Reading], str], dict[Reading, NDArray[np.int64]]]
"""Takes images, the way they are read, some readings and the label of the progress line. Returns, for
each reading, the outputs with the largest logit, (N,). Raises an InputError for an image that cannot be
read, and for a logit that is not a number."""
ASSUMED_BY_NAME = "assumed in order of their names"
"""Words on outputs' classes where nothing names them: no convention, a guess."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shift:
    """A set, and the outputs of a classifier that stand for the set's classes."""

    one: RobustnessSet
    outputs: tuple[str, ...]
    """The class of each of the classifier's outputs."""
    folders: tuple[str, ...]
    """Class folders in sorted order; a set's class is a place in this order."""
    group_C: NDArray[np.int64]
    """The set's class that each output stands for; -1 for none of them."""

    @property
    def own(self) -> Reading:
        """The outputs that stand for a class of the set."""
        return tuple(np.flatnonzero(self.group_C >= 0).tolist())

    @property
    def readings(self) -> dict[str, Reading]:
        """The readings by metric: `top1`, and the other one where it differs."""
        own, every = self.own, tuple(range(len(self.outputs)))
        if own == every:
            return {"top1": every}
        if self.one.reading == "own classes":
            return {"top1": own, f"top1_of_{len(every)}": every}
        return {"top1": every, f"top1_of_{len(self.folders)}": own}

    @property
    def output_K(self) -> NDArray[np.int64]:
        """The output of each of the set's classes; -1 where several stand for it."""
        times_K = np.bincount(self.group_C[list(self.own)], minlength=len(self.folders))
        only_K = np.full(len(self.folders), -1)
        only_K[self.group_C[list(self.own)]] = self.own
        return np.where(times_K == 1, only_K, -1)


def output_names(
    checkpoint: Checkpoint, clean_classes: tuple[str, ...]
) -> tuple[tuple[str, ...], str]:
    """The class of each output, and words on how it is known.

    A classifier that names no classes is taken to have those of the clean set in sorted order, which
    for WordNet ids is the field's convention, if it has as many.
    """
    names, outputs, wanted = checkpoint.classes, checkpoint.content.num_classes, len(clean_classes)
    has = f"{checkpoint.info.source} has {counted(outputs, 'output')}"
    if names:
        if not len(names) == len(set(names)) == outputs:
            raise InputError(
                f"{has} and names {counted(len(names), 'class', 'classes')}, {len(set(names))} of them "
                "different; each output needs a name of its own"
            )
        return names, "named by the checkpoint"
    if outputs != wanted:
        raise InputError(
            f"{has} and does not say what they stand for; only {wanted}, as many as the clean set has "
            "classes, would be taken in sorted order"
        )
    wordnet = all(name[0] == "n" and name[1:].isdigit() for name in clean_classes)
    known = "assumed in order of WordNet ids" if wordnet else ASSUMED_BY_NAME
    return tuple(sorted(clean_classes)), known


def match(one: RobustnessSet, root: Path, outputs: tuple[str, ...], *, source: str) -> Shift:
    """Match a set's classes with a classifier's outputs, by name; messages call it `source`.

    Raises:
        InputError: the classifier lacks a class of the set.
    """
    right = right_answers(one, root)
    place = {name: number for number, name in enumerate(outputs)}
    unknown = [name for names in right.values() for name in names if name not in place]
    if unknown:
        raise InputError(
            f"{source} does not know {counted(len(unknown), 'class', 'classes')} of {one.title} "
            f"({first(unknown)}); evaluate a classifier of the same classes"
        )
    group_C = np.full(len(outputs), -1)
    for number, names in enumerate(right.values()):
        group_C[[place[name] for name in names]] = number
    return Shift(one=one, outputs=outputs, folders=tuple(right), group_C=group_C)


def open_classes(root: Path, names: Sequence[str], *, border: int = 0) -> Folder:
    """The images of some class folders; a label is a place in `names`. Others are passed over."""
    found = list_classes(root, set(names))
    found.require_whole()
    folder = folder_of(found, tuple(names), border=border)
    if not len(folder):
        raise InputError(f"{root} has no image of the classes that are asked for")
    return folder


def predictor(
    model: nn.Module, checkpoint: Checkpoint, *, device: torch.device, **options: int
) -> Predict:
    """A classifier as a function of images, read with `batch_size` and `num_workers`; no logit is
    kept."""

    def predict(
        folder: Folder, pixels: Pixels, readings: Sequence[Reading], label: str
    ) -> dict[Reading, NDArray[np.int64]]:
        unique = list(dict.fromkeys(readings))
        indices = [torch.tensor(reading, device=device) for reading in unique]

        def largest(images: Tensor) -> Tensor:
            logits_NC = model(checkpoint.normalise(images)).float()
            if not logits_NC.isfinite().all():
                raise InputError(f"{checkpoint.info.source} gives logits that are not finite")
            return torch.stack([index[logits_NC[:, index].argmax(1)] for index in indices], dim=1)

        found_NR, _ = run_over_folder(
            largest, folder, pixels, device=device, label=label, **options
        )
        # Floats hold integers below 2^24 exactly.
        predicted_NR = found_NR.to(torch.int64).numpy()
        return {reading: predicted_NR[:, i] for i, reading in enumerate(unique)}

    return predict

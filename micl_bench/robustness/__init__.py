"""Shifted test sets, one declarative file per set, with its folder and the clean set beside it.

A file defines `SET`, a `RobustnessSet`; a new set is a new file, here or a plug-in.

`inspect_set` finds the faults of a copy of one, before anything is measured on it.
"""

from micl_bench.robustness._check import Findings, inspect_set
from micl_bench.robustness._labels import (
    IMAGENET_VAL,
    image_number,
    imagenet_classes,
    real_labels,
    right_answers,
)
from micl_bench.robustness._set import CleanSet, RobustnessSet
from micl_bench.runtime import plugins

__path__ = plugins.SearchPath("robustness", __path__)

__all__ = [
    "IMAGENET_VAL",
    "CleanSet",
    "Findings",
    "RobustnessSet",
    "every_set",
    "find_set",
    "image_number",
    "imagenet_classes",
    "inspect_set",
    "real_labels",
    "right_answers",
]


def find_set(name: str) -> RobustnessSet:
    """Return the declaration of a shifted set by its name.

    Raises:
        InputError: there is no such set, or its file declares no `RobustnessSet`.
    """
    declared: RobustnessSet = plugins.find("robustness", name, SET=RobustnessSet).SET
    return declared


def every_set() -> list[RobustnessSet]:
    """Return the declarations of all shifted sets, but for plug-ins that cannot be used."""
    return list(plugins.every("robustness", find_set).values())

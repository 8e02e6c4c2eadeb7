"""Shifted test sets, one declarative file a set: what it is, where it lies, what it is held against.

`inspect_set` says what is wrong with a copy of one, before anything is measured on it.
"""

from micl_bench.robustness._check import Findings, inspect_set
from micl_bench.robustness._imagenet import IMAGENET_VAL, imagenet_classes, real_labels
from micl_bench.robustness._labels import image_number, right_answers
from micl_bench.robustness._set import CleanSet, RobustnessSet

__all__ = [
    "IMAGENET_VAL",
    "CleanSet",
    "Findings",
    "RobustnessSet",
    "image_number",
    "imagenet_classes",
    "inspect_set",
    "real_labels",
    "right_answers",
]

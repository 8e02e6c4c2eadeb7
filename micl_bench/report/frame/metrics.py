"""What the report knows of tasks and metrics: names, units, which way is better, intervals.

A task or metric that is not listed still gets a generic name and number, but no verdict.
"""

import functools
import math
import re

from micl_bench.records.result import Result

OURS = "MiCL"
"""The method that verdicts speak of; it comes first in every table."""

TASK_TITLES = {
    "pretrain": "Pre-training",
    "knn": "k-NN",
    "linear": "Linear probe",
    "logistic": "Logistic regression",
    "finetune": "Fine-tuning",
    "robustness": "Robustness to shifted test sets",
    "ade20k": "Semantic segmentation: UperNet",
    "coco": "Detection and instance segmentation: Mask R-CNN",
    "representation": "Health of the representation",
}
"""In the order of the report; tasks that are not named here follow by name."""

_METRIC_NAMES = {
    "top1": "top-1",
    "top5": "top-5",
    "clean_top1": "clean top-1",
    "real_top1": "ReaL top-1",
    "knn_top1": "k-NN top-1",
    "images_per_second": "images/s",
    "mfu": "MFU",
    "peak_memory_mib": "peak memory [MiB]",
}
_NEIGHBOURS = re.compile(r"top1_k(\d+)")
_OF_ALL = re.compile(r"(clean_)?top1_of_(\d+)")
_HEADLINES = ("top1", "mCE", "mIoU", "box_AP", "mask_AP", "knn_top1")
_HIGHER_IS_BETTER = re.compile(
    r"(.*_)?(top\d+(_k\d+|_of_\d+)?|AP(\d+|s|m|l)?|mIoU|mAcc|aAcc|accuracy)"
)
_LOWER_IS_BETTER = ("mCE",)
_NOT_RANKED = ("drop", "mfu")
"""Percentages of which more, or less, is not better by itself."""


def task_title(task: str) -> str:
    """A task as headings print it."""
    return TASK_TITLES.get(task, task)


def task_rank(task: str) -> tuple[int, str]:
    """Sorts tasks as the report shows them."""
    known = list(TASK_TITLES)
    return (known.index(task) if task in known else len(known), task)


def method_rank(method: str) -> tuple[bool, str]:
    """Sorts methods: ours first, the others by name."""
    return (method != OURS, method.lower())


def is_percentage(metric: str) -> bool:
    """Whether a metric is known to be a percentage."""
    return metric in _NOT_RANKED or direction(metric) != 0


# A report of thousands of records asks for few metrics, each many times.
@functools.lru_cache(maxsize=1 << 10)
def direction(metric: str) -> int:
    """1 where a higher value is known to be better, -1 where a lower one is, else 0: not ranked.

    A loss is not ranked, which two methods do not share, nor the drop from the clean set, where a
    model at chance, with nothing to lose, would win.
    """
    if metric in _LOWER_IS_BETTER:
        return -1
    return 1 if _HIGHER_IS_BETTER.fullmatch(metric) else 0


def headline_metrics(metrics: list[str]) -> list[str]:
    """The metrics of a verdict: those that people quote, or else the first that ranks."""
    quoted = [metric for metric in _HEADLINES if metric in metrics]
    return quoted or [metric for metric in metrics if direction(metric)][:1]


def headline_of(result: Result) -> str:
    """The metric that stands for a record: the one that people quote, or else its first."""
    return (headline_metrics(list(result.metrics)) or list(result.metrics))[0]


def is_headline(metric: str) -> bool:
    """Whether people quote it."""
    return metric in _HEADLINES


def metric_name(metric: str) -> str:
    """A metric as headers and sentences print it, without its unit."""
    if found := _NEIGHBOURS.fullmatch(metric):
        return f"k = {found[1]}"
    if classes := classes_of(metric):
        return f"{'clean ' if metric.startswith('clean_') else ''}top-1 of all {classes:,}"
    return _METRIC_NAMES.get(metric, metric.replace("_", " "))


def classes_of(metric: str) -> int:
    """N of `top1_of_N`, the reading in which all N classes compete, not a set's own; else 0."""
    found = _OF_ALL.fullmatch(metric)
    return int(found[2]) if found else 0


@functools.lru_cache(maxsize=1 << 10)
def metric_header(metric: str) -> str:
    """A metric with its unit where the unit is known."""
    unit = " [points]" if metric == "drop" else " [%]" if is_percentage(metric) else ""
    return metric_name(metric) + unit


def format_value(metric: str, value: float) -> str:
    """A number for a table: one decimal for percentages, four digits for anything else."""
    if not math.isfinite(value):
        return "–"
    if is_percentage(metric):
        return f"{value:.1f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def format_p(p: float | None) -> str:
    """A p-value, nothing where there is none."""
    if p is None:
        return ""
    return f"{p:.1e}" if p < 0.0001 else f"{p:.4f}"


def interval(result: Result, metric: str) -> tuple[float, float] | None:
    """The 95 % interval of a record's metric, where it has a finite one."""
    ends = result.intervals.get(metric, [])
    return (ends[0], ends[1]) if len(ends) == 2 and all(map(math.isfinite, ends)) else None


def format_interval(metric: str, bounds: tuple[float, float]) -> str:
    """The ends as a table prints them; `to` where a sign would read as a second dash."""
    low, high = (format_value(metric, end) for end in bounds)
    return f"{low} to {high}" if "-" in low + high else f"{low}–{high}"

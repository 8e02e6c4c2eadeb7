"""Names and order of methods and data sets in a report, and phrases used in several places."""

from collections.abc import Iterable

from micl_bench.records.result import DataSet, Result

OURS = "MiCL"
"""The method that verdicts speak of; it comes first in every table."""


def method_rank(method: str) -> tuple[bool, str]:
    """Return a sort key of methods: ours first, the others by name."""
    return (method != OURS, method.lower())


def data_order(data: DataSet) -> tuple[str, str, int, str]:
    """Return a sort key of data sets, in the order of tables."""
    return (data.name, data.split, data.images, data.digest)


def data_label(data: DataSet, datas: list[DataSet]) -> str:
    """Return the name, with split and digest where another data set has the same name."""
    namesakes = [other for other in datas if other.name == data.name]
    return data.name if len(namesakes) == 1 else label_in_full(data)


def label_in_full(data: DataSet) -> str:
    """Return the name with split, number of images and digest."""
    return f"{data.name} ({data.split}, {data.images:,} images, {data.digest[:7]})"


def data_words(data: DataSet) -> str:
    """Return the images in words: `1,078 images of embedded, split train, digest fbc5bbb2d80a`."""
    return f"{data.images:,} images of {data.name}, split {data.split}, digest {data.digest[:12]}"


def training_words(train: DataSet | None) -> str:
    """Return in words the images that a classifier was fitted on."""
    return f"trained on {data_words(train)}" if train else "training images not recorded"


def assumed_words(results: Iterable[Result]) -> list[str]:
    """Return a footnote on what was assumed of the checkpoints, or none."""
    assumed = dict.fromkeys(words for one in results for words in one.checkpoint.guesses)
    if not assumed:
        return []
    return [f"assumed, as neither the checkpoint nor the user states it: {', '.join(assumed)}"]


def format_p(p: float | None) -> str:
    """Return a p-value as text; empty where there is none."""
    if p is None:
        return ""
    return f"{p:.1e}" if p < 0.0001 else f"{p:.4f}"

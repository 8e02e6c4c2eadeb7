"""How a report calls and sorts methods and data sets, and the phrases that stand in several places."""

from collections.abc import Iterable

from micl_bench.records.result import DataSet, Result

OURS = "MiCL"
"""The method that verdicts speak of; it comes first in every table."""


def method_rank(method: str) -> tuple[bool, str]:
    """Sorts methods: ours first, the others by name."""
    return (method != OURS, method.lower())


def data_order(data: DataSet) -> tuple[str, str, int, str]:
    """Sorts data sets as tables show them."""
    return (data.name, data.split, data.images, data.digest)


def data_label(data: DataSet, datas: list[DataSet]) -> str:
    """The name, with split and digest where the same name stands for different images."""
    namesakes = [other for other in datas if other.name == data.name]
    return data.name if len(namesakes) == 1 else told_apart(data)


def told_apart(data: DataSet) -> str:
    """The name with what tells it from others of the same name."""
    return f"{data.name} ({data.split}, {data.images:,} images, {data.digest[:7]})"


def data_words(data: DataSet) -> str:
    """The images in full: `1,078 images of embedded, split train, digest fbc5bbb2d80a`."""
    return f"{data.images:,} images of {data.name}, split {data.split}, digest {data.digest[:12]}"


def training_words(train: DataSet | None) -> str:
    """The images that a classifier was fitted on, in words."""
    return f"trained on {data_words(train)}" if train else "training images not recorded"


def assumed_words(results: Iterable[Result]) -> list[str]:
    """The footnote of a number whose checkpoints do not state all that it depends on; else none."""
    assumed = dict.fromkeys(words for one in results for words in one.checkpoint.guesses)
    if not assumed:
        return []
    return [f"assumed, as neither the checkpoint nor the user states it: {', '.join(assumed)}"]


def format_p(p: float | None) -> str:
    """A p-value, nothing where there is none."""
    if p is None:
        return ""
    return f"{p:.1e}" if p < 0.0001 else f"{p:.4f}"

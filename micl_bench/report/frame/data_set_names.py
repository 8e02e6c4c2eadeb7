"""How data sets are named and sorted where several stand beside each other."""

from micl_bench.records.result import DataSet


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


def data_order(data: DataSet) -> tuple[str, str, int, str]:
    """Sorts data sets as tables show them."""
    return (data.name, data.split, data.images, data.digest)

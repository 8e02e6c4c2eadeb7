"""What the evaluations of a frozen backbone share: their images, and words on their features."""

from typing import Any

from micl_bench.data.source import Source, open_source, tell_absent_classes
from micl_bench.engine.frozen.feature_cache import Features
from micl_bench.tasks._request import Request


def open_splits(request: Request) -> tuple[Source, Source]:
    """`<data>/train` and `<data>/val`, folders of images or packed stores.

    Raises:
        InputError: one is missing or damaged, or `val` has classes that `train` lacks.
    """
    train = open_source(request.data / "train")
    test = open_source(request.data / "val", classes=train.classes)
    tell_absent_classes(test)
    return train, test


def feature_details(**features: Features) -> dict[str, Any]:
    """Which stored features a number was read from, and whether its `seconds` hold their computing."""
    return {"features": {name: found.origin for name, found in features.items()}}

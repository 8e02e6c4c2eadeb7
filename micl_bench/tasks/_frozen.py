"""What the evaluations of a frozen backbone share: its features, computed once for all of them."""

from typing import Any

from micl_bench.data.checked import look_at
from micl_bench.data.source import Source, open_source, tell_absent_classes
from micl_bench.engine.frozen.feature_cache import Features, cached_features, default_folder
from micl_bench.tasks._request import Request
from micl_bench.tasks._session import Session


def open_splits(request: Request) -> tuple[Source, Source]:
    """`<data>/train` and `<data>/val`, folders of images or packed stores.

    Raises:
        InputError: one is missing or damaged, or `val` has classes that `train` lacks.
    """
    train = open_source(request.data / "train")
    test = open_source(request.data / "val", classes=train.classes)
    tell_absent_classes(test)
    return train, test


def stored_features(session: Session, source: Source, *, beside: Source | None = None) -> Features:
    """Features of every image by the session's backbone; the recipe says how they are computed.

    Args:
        beside: whose features are wanted next: its images are looked at too before any are computed.

    Raises:
        InputError: as `cached_features`.
    """
    recipe = session.recipe
    return cached_features(
        session.checkpoint,
        source,
        recipe.pixels,
        device=session.device,
        precision=recipe.precision,
        batch_size=recipe.batch_size,
        num_workers=recipe.num_workers,
        folder=default_folder(),
        label=f"features of {source.root.name}",
        before=lambda: look_at(*(one for one in (source, beside) if one is not None)),
    )


def feature_details(**features: Features) -> dict[str, Any]:
    """Which stored features a number was read from, and whether its `seconds` hold their computing."""
    return {"features": {name: found.origin for name, found in features.items()}}

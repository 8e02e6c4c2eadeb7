"""Which table a record belongs to: that of the public sets, or of others that never mix with these."""

import functools
from typing import NamedTuple

from micl_bench.records.names import PUBLIC_SETS, family, is_called
from micl_bench.records.result import DataSet, Result

PUBLIC = ""
"""The world of the public sets, where published numbers belong."""


class Place(NamedTuple):
    """A record's place."""

    world: str
    """`PUBLIC`, what stand-ins are called together (`embedded`), or the name of anybody's own set."""
    public_set: str
    """The public set that the images are, stand in for, or are used like."""


def place_of(result: Result) -> Place:
    """Of one record; what the images are is decided by `naming.family`."""
    return _place(result.about.public_set, result.data)


@functools.lru_cache(maxsize=1024)
def _place(used_like: str, data: DataSet) -> Place:
    if data.stands_for:
        return Place(data.name.partition("-")[0], _named(data.stands_for))
    if (known := family(data)) in PUBLIC_SETS:
        return Place(PUBLIC, known)
    return Place(known, used_like or _named(data.name))


def _named(name: str) -> str:
    return next((public for public in PUBLIC_SETS if is_called(name, public)), name)

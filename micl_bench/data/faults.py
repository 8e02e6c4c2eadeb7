"""What is wrong with data, and how to fix it: `doctor` lists it, a run is refused by it."""

import dataclasses

from micl_bench.runtime.wording import plural


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that was found."""

    found: str
    fix: str
    fatal: bool = True
    """A run fails by it, or its number would be wrong; else it costs or limits."""


def reason(error: BaseException) -> str:
    """An exception as a few words."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def first(names: list[str], *, number: int = 3) -> str:
    """The first of many, on one line."""
    return ", ".join(names[:number]) + (", ..." if names[number:] else "")


def counted_of(number: int, total: int, one: str, more: str) -> str:
    """`1 of 20 masks is` or `3 of 20 masks are`: the words behind the numbers."""
    return f"{number:,} of {total:,} {plural(number, one, more)}"

"""Faults of data, and their fixes: `doctor` lists them, a run is refused by them."""

import dataclasses

from micl_bench.runtime.wording import plural


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault, and its fix."""

    found: str
    fix: str
    fatal: bool = True
    """A run fails by it, or its number would be wrong; others cost time or limit the data."""


def reason(error: BaseException) -> str:
    """Return an exception in a few words."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def first(names: list[str], *, number: int = 3) -> str:
    """Join the first of many names on one line."""
    return ", ".join(names[:number]) + (", ..." if names[number:] else "")


def counted_of(number: int, total: int, one: str, more: str) -> str:
    """Return `1 of 20 masks is` or `3 of 20 masks are`, given the words behind the numbers."""
    return f"{number:,} of {total:,} {plural(number, one, more)}"

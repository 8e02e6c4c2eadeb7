"""Words of messages that depend on a number."""

_SHOWN = 5


def counted(number: int, noun: str, several: str = "") -> str:
    """A number and what is counted: `1 file`, `1,281,167 files`.

    Args:
        several: the noun's plural, where it is not made by an s.
    """
    return f"{number:,} {plural(number, noun, several)}"


def plural(number: int, one: str, several: str = "") -> str:
    """A noun, or a verb with both its forms given, as it follows a number."""
    return one if number == 1 else several or f"{one}s"


def first_few(words: list[str], separator: str = ", ") -> str:
    """Join the first five words, and state how many more there are."""
    rest = [f"and {len(words) - _SHOWN} more"] if len(words) > _SHOWN else []
    return separator.join([*words[:_SHOWN], *rest])

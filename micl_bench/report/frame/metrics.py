"""How a report orders methods, and prints p-values."""

OURS = "MiCL"
"""The method that verdicts speak of; it comes first in every table."""


def method_rank(method: str) -> tuple[bool, str]:
    """Sorts methods: ours first, the others by name."""
    return (method != OURS, method.lower())


def format_p(p: float | None) -> str:
    """A p-value, nothing where there is none."""
    if p is None:
        return ""
    return f"{p:.1e}" if p < 0.0001 else f"{p:.4f}"

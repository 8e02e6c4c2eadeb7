"""Our own layout: weights beside architecture, method and provenance."""

from typing import Any

from micl_bench.backbone import Arch
from micl_bench.checkpoints._convert import Converted
from micl_bench.errors import InputError


def recognise(content: dict[str, Any]) -> bool:
    """Whether a file's content is of this layout."""
    return "micl_bench" in content


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Nothing to rename; `arch` may only repeat what the file says.

    Raises:
        InputError: another version, or a field is missing or wrong.
    """
    if content["micl_bench"] != 1:
        raise InputError(f"checkpoint version {content['micl_bench']!r}; this version reads 1")
    try:
        own = Arch(**content["arch"])
        converted = Converted(
            arch=own,
            state=dict(content["model"]),
            method=str(content["method"]),
            pool="avg" if content["pool"] == "avg" else "token",
            num_classes=int(content["num_classes"]),
            classes=tuple(map(str, content["provenance"].get("classes", ()))),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"the checkpoint's description is damaged: {error}") from error
    if arch not in (None, own.name):
        raise InputError(f"the checkpoint is a {own.name}, not a {arch}; leave arch out")
    return converted

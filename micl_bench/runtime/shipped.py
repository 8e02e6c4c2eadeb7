"""Recipes, mmengine configs and suites that come with the package, found by name from any folder.

They lie in `pretrain/` and `downstream/`: beside the package in a checkout, which has links to them, and
inside it where it is installed. A file that exists as given comes before a name.
"""

import difflib
from pathlib import Path

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import shown

_PACKAGE = Path(__file__).resolve().parents[1] / "shipped"
FOLDERS = ((_PACKAGE / "pretrain").resolve(), (_PACKAGE / "downstream").resolve())
_NEAR = 0.5
"""Likeness from which on another name is offered, of 1 for the same (difflib's ratio)."""


def recipes() -> dict[str, Path]:
    """Return the shipped recipes and mmengine configs by name, those of pre-training first."""
    return {path.stem: path for folder in FOLDERS for path in sorted(folder.glob("[!_]*.py"))}


def suites() -> dict[str, Path]:
    """Return the shipped suite files by name."""
    return {path.stem: path for path in sorted((FOLDERS[1] / "suites").glob("*.yaml"))}


def recipe_file(given: str | Path) -> Path:
    """Return the file of a recipe or mmengine config that is given by path or by name.

    Raises:
        InputError: there is no such file, and none of that name; the message has the nearest names.
    """
    return _file(given, recipes(), "recipe")


def suite_file(given: str | Path) -> Path:
    """Return the file of a suite that is given by path or by name.

    Raises:
        InputError: as `recipe_file`.
    """
    return _file(given, suites(), "suite")


def _file(given: str | Path, known: dict[str, Path], kind: str) -> Path:
    if (path := Path(given)).is_file():
        return path
    if str(given) in known:
        return known[str(given)]
    near = difflib.get_close_matches(path.stem, known, cutoff=_NEAR)
    raise InputError(
        f"no {kind} file at {path}, and none is shipped under the name {shown(path.stem)}"
        + (f"; near it: {', '.join(near)}" if near else "")
        + f" (micl-bench list {kind}s shows all)"
    )

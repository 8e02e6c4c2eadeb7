"""A plug-in is found by its file name: `micl_bench/<kind>/<name>.py`; there is no list to edit.

A plug-in may also be a folder of that name with an `__init__.py`. A kind may lie deeper:
`report.tables.specs` is `micl_bench/report/tables/specs/`.
"""

import ast
import importlib
from pathlib import Path
from types import ModuleType

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import shown

_PACKAGE = Path(__file__).resolve().parents[1]


def names(kind: str) -> dict[str, str]:
    """Name and first docstring line of every plug-in of a kind, read without importing any."""
    return {name: summary(path) for name, path in _files(kind).items()}


def find(kind: str, name: str) -> ModuleType:
    """Import one plug-in.

    Raises:
        InputError: no plug-in of that kind has that name; the message lists those there are.
    """
    known = _files(kind)
    if name not in known:
        raise InputError(f"no {kind} entry is called {shown(name)}; known: {', '.join(known)}")
    return importlib.import_module(f"micl_bench.{kind}.{name}")


def _files(kind: str) -> dict[str, Path]:
    """Every plug-in's name, sorted, and the file that its docstring stands in."""
    folder = _PACKAGE.joinpath(*kind.split("."))
    found = {path.stem: path for path in folder.glob("*.py")}
    found |= {path.parent.name: path for path in folder.glob("*/__init__.py")}
    return {name: found[name] for name in sorted(found) if name[0] != "_"}


def summary(path: Path) -> str:
    """First line of a module's docstring, read without running it; empty without one."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]

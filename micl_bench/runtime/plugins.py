"""Plug-ins are found by their names: there is no list to edit, in the package or outside of it.

A plug-in is one file `<name>.py`, or a folder `<name>` with an `__init__.py`, in the folder of its kind:

- in the package: `micl_bench/<kind>/`, or deeper (`data.sources` is `micl_bench/data/sources/`);
- in each folder that `MICL_BENCH_PLUGINS` names (a list as that of `PATH`), in the sub-folder `tasks`,
  `objectives`, `checkpoints`, `robustness` or `sources`. It is imported as if it lay in the package;
- in an installed distribution, by an entry point of the group `micl_bench.tasks`, `.objectives`,
  `.checkpoints`, `.robustness` or `.sources`: the plug-in's name, and the module that it is.
"""

import ast
import dataclasses
import functools
import importlib
import importlib.util
import os
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file, digest_json
from micl_bench.runtime.log import printable, say
from micl_bench.runtime.values import shown

T = TypeVar("T")

VARIABLE = "MICL_BENCH_PLUGINS"
_OPEN = ("tasks", "objectives", "checkpoints", "robustness", "sources")
"""Last words of the kinds that plug-ins from outside may be of."""
_PACKAGE = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class _Plugin:
    name: str
    module: str
    """The name that it is imported under."""
    file: Path | None
    """The file with its docstring; None where an entry point does not show it before the import."""
    origin: str = ""
    """The place that it comes from, for people; empty for the package itself."""

    @property
    def place(self) -> str:
        return self.origin or str(self.file)


def digest(kind: str, name: str) -> str:
    """Return the SHA-256 of an outside plug-in's code; empty for the package's own, which has a version.

    Raises:
        InputError: as `names`.
    """
    one = _found(kind).get(name)
    if one is None or not one.origin or one.file is None:
        return ""
    files = one.file.parent.glob("*.py") if one.file.name == "__init__.py" else [one.file]
    return digest_json({file.name: digest_file(file) for file in files})


class SearchPath(list[str]):
    """The `__path__` of a kind's package: its own folders, then those outside, as they are named now."""

    def __init__(self, kind: str, own: Iterable[str]) -> None:
        super().__init__(own)
        self._kind = kind

    def __iter__(self) -> Iterator[str]:
        yield from super().__iter__()
        yield from (str(folder / self._kind) for folder in _folders())


def names(kind: str) -> dict[str, str]:
    """Map each plug-in of a kind to its docstring's first line and, from outside, its place.

    No plug-in is imported.

    Raises:
        InputError: a name stands twice, or `MICL_BENCH_PLUGINS` names no folder.
    """
    return {name: _line(one) for name, one in _found(kind).items()}


def usable(kind: str, read: Callable[[str], object]) -> dict[str, str]:
    """As `names`, but a plug-in from outside that cannot be used is left out, with a warning.

    Args:
        read: as for `every`; it is called, and imports, for plug-ins from outside alone.

    Raises:
        InputError: as `names`.
    """
    found = _found(kind)
    unusable = set(outside := [name for name, one in found.items() if one.origin])
    unusable -= _read_each(outside, read).keys()
    return {name: _line(one) for name, one in found.items() if name not in unusable}


def name_of(kind: str, module: str) -> str:
    """Return the name of the plug-in that a module belongs to; empty for any other module.

    Raises:
        InputError: as `names`.
    """
    found = _found(kind).items()
    return next((name for name, one in found if f"{module}.".startswith(f"{one.module}.")), "")


def find(kind: str, name: str, **needed: Any) -> ModuleType:
    """Import one plug-in and return its module.

    Args:
        needed: the names that it must define, each with the class of its value: `TASK=Task`, `type[X]`
            for a subclass of X, `Callable` for a function.

    Raises:
        InputError: as `names`; no plug-in of that kind has that name (the message lists the known
            names); or it cannot be imported, or does not define what it must.
    """
    found = _found(kind)
    if name not in found:
        raise InputError(f"no {kind} entry is called {shown(name)}; known: {', '.join(found)}")
    return _imported(found[name], needed)


def every(kind: str, read: Callable[[str], T]) -> dict[str, T]:
    """Read each plug-in of a kind; one that cannot be used is left out, with a warning.

    Args:
        read: gets a name, and raises an InputError where that plug-in cannot be used.

    Returns:
        Name to what `read` returned.

    Raises:
        InputError: as `names`.
    """
    return _read_each(_found(kind), read)


def summary(path: Path | None) -> str:
    """Return the first line of a module's docstring, without running it, or why it cannot be read."""
    if path is None:
        return ""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError) as error:
        return f"cannot be read: {printable(' '.join(str(error).split()))}"
    return printable((ast.get_docstring(tree) or "").partition("\n")[0])


def _line(one: _Plugin) -> str:
    return summary(one.file) + (f" (from {printable(one.origin)})" if one.origin else "")


def _read_each(among: Iterable[str], read: Callable[[str], T]) -> dict[str, T]:
    found = {}
    for name in among:
        try:
            found[name] = read(name)
        except InputError as error:
            _say_once(f"warning: {error}; it is left out")
    return found


def _found(kind: str) -> dict[str, _Plugin]:
    """Return every plug-in of a kind, sorted by name."""
    package = f"micl_bench.{kind}"
    found: dict[str, _Plugin] = {}
    for one in (
        *_in_folder(_PACKAGE.joinpath(*kind.split(".")), package),
        *_from_outside(kind.rpartition(".")[2], package),
    ):
        if (other := found.setdefault(one.name, one)) is not one:
            raise InputError(
                f"two {kind} entries are called {shown(one.name)}: {other.place} and {one.place}; "
                "rename one"
            )
    return dict(sorted(found.items()))


def _from_outside(last: str, package: str) -> Iterator[_Plugin]:
    if last not in _OPEN:
        return
    for folder in _folders():
        if not folder.is_dir():
            raise InputError(f"{VARIABLE} names {folder}, which is no folder")
        for one in _in_folder(folder / last, package):
            yield dataclasses.replace(one, origin=str(one.file))
    yield from _entry_points(f"micl_bench.{last}")


def _in_folder(folder: Path, package: str) -> Iterator[_Plugin]:
    found = {path.stem: path for path in folder.glob("*.py")}
    found |= {path.parent.name: path for path in folder.glob("*/__init__.py")}
    for name, path in found.items():
        if name[0] != "_":
            yield _Plugin(name, f"{package}.{name}", path)


def _folders() -> list[Path]:
    named = os.environ.get(VARIABLE, "").split(os.pathsep)
    return [Path(text).absolute() for text in dict.fromkeys(named) if text]


@functools.cache
def _entry_points(group: str) -> tuple[_Plugin, ...]:
    # Here: a command that looks for no plug-in, such as help, starts a tenth faster without it.
    from importlib import metadata

    return tuple(
        _Plugin(
            one.name,
            one.module,
            _file_of(one.module),
            origin=f"{one.module} of {one.dist.name if one.dist else 'no distribution'}",
        )
        for one in metadata.entry_points(group=group)
    )


def _file_of(module: str) -> Path | None:
    """The file of an installed module, found without importing its package; None if not so found."""
    top, *below = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or not below:
        return Path(spec.origin) if spec and spec.origin else None
    for place in spec.submodule_search_locations or ():
        path = Path(place, *below)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def _imported(one: _Plugin, needed: Mapping[str, Any]) -> ModuleType:
    try:
        module = importlib.import_module(one.module)
    except (Exception, SystemExit) as error:
        # An error of the package itself is a defect, or says by itself what is not installed.
        if not one.origin:
            raise
        reason = printable(" ".join(str(error).split()))
        raise InputError(
            f"the plug-in {printable(one.origin)} cannot be imported: {type(error).__name__}: {reason}"
        ) from error
    if missing := [name for name in needed if not hasattr(module, name)]:
        raise InputError(f"the plug-in {one.place} defines no {' and no '.join(missing)}")
    for name, kind in needed.items():
        if not _is_a(value := getattr(module, name), kind):
            raise InputError(
                f"the plug-in {one.place} has {name} = {shown(value)}; needed: {_words(kind)}"
            )
    return module


def _is_a(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is type:
        return isinstance(value, type) and issubclass(value, typing.get_args(kind))
    return isinstance(value, kind)


def _words(kind: Any) -> str:
    if kind is Callable:
        return "a function"
    if typing.get_origin(kind) is type:
        return f"a subclass of {typing.get_args(kind)[0].__name__}"
    return f"a {kind.__name__}"


@functools.cache
def _say_once(line: str) -> None:
    say(line)

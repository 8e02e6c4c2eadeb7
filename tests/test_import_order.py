"""The import order of the architecture: a module imports from its own row and from those below."""

import ast
import functools
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "micl_bench"

ROWS = (
    ("__main__",),
    ("cli",),
    ("tasks", "suites", "report", "bench", "doctor"),
    ("engine", "openmmlab"),
    ("objectives", "checkpoints"),
    ("backbone", "data", "robustness"),
    ("records", "runs", "runtime", "losses", "views", "patches"),
)
ROW_OF = {name: row for row, names in enumerate(ROWS) for name in names}
OPENMMLAB = {"mmengine", "mmcv", "mmseg", "mmdet"}
TORCH = {"torch", "torchvision", "timm"}


def imported(source: str) -> Iterator[str]:
    """Every name that a file imports, inside functions and for the type checker too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import, which this test cannot place"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def imports() -> dict[str, set[str]]:
    """By module, without the package's name: what it imports, our own modules in the same manner."""
    paths = {}
    for path in PACKAGE.rglob("*.py"):
        paths[".".join(path.relative_to(PACKAGE).with_suffix("").parts)] = path
    found = {}
    for module, path in paths.items():
        names = set(imported(path.read_text(encoding="utf-8")))
        found[module] = {own_module(name, set(paths)) or name for name in names}
    return found


def own_module(name: str, modules: set[str]) -> str:
    """The module of ours that a name is, or is defined in; empty for others."""
    package, _, rest = name.partition(".")
    while package == "micl_bench" and rest:
        for module in (rest, f"{rest}.__init__"):
            if module in modules:
                return module
        rest = rest.rpartition(".")[0]
    return "__init__" if package == "micl_bench" else ""


def area(module: str) -> str:
    """Top-level folder or module that a module belongs to."""
    return module.partition(".")[0]


def arrows() -> Iterator[tuple[str, str]]:
    """A module and one of ours that it imports; not the package's own head, which everyone may ask."""
    for module, names in imports().items():
        yield from (
            (module, name) for name in names & imports().keys() if "__init__" not in (module, name)
        )


def test_every_folder_has_a_row() -> None:
    assert {area(module) for module in imports()} - {"__init__"} == set(ROW_OF)


def test_no_module_imports_from_a_row_above() -> None:
    assert [pair for pair in arrows() if ROW_OF[area(pair[1])] < ROW_OF[area(pair[0])]] == []


def test_no_module_and_no_folder_imports_itself_in_a_circle() -> None:
    for level in (str, area):
        graph: dict[str, set[str]] = {}
        for module, name in arrows():
            if level(module) != level(name):
                graph.setdefault(level(module), set()).add(level(name))
        graphlib.TopologicalSorter(graph).prepare()


def test_only_openmmlab_imports_openmmlab() -> None:
    for module, names in imports().items():
        assert area(module) == "openmmlab" or not {area(name) for name in names} & OPENMMLAB


def test_the_report_stands_on_records_alone_and_knows_no_torch() -> None:
    for module, names in imports().items():
        if area(module) == "report":
            assert not {area(name) for name in names} & TORCH
            below = {area(name) for name in names & imports().keys()} - {"report", "__init__"}
            assert below <= set(ROWS[-1]), module


def test_nothing_imports_the_command_line_that_it_is_called_by() -> None:
    users = {module for module, name in arrows() if name == "cli.app"}
    assert users == {"__main__"}


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("def f():\n    from micl_bench.cli.app import app\n", "cli.app"),
        ("from micl_bench.backbone import Arch\n", "backbone.__init__"),
        ("if TYPE_CHECKING:\n    import micl_bench.losses\n", "losses"),
        ("from micl_bench import __version__\n", "__init__"),
    ],
)
def test_the_guard_sees_imports_wherever_they_stand(source: str, module: str) -> None:
    (name,) = imported(source)
    assert own_module(name, set(imports())) == module

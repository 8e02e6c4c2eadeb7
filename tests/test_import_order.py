"""The import order of the architecture: a module imports from lower rows and its own folder."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "micl_bench"

ROWS = (
    ("cli", "commands", "cluster", "demo", "doctor", "listing", "suite", "__main__"),
    ("tasks", "report", "bench"),
    ("openmmlab",),
    ("engine",),
    ("objectives", "checkpoints"),
    ("backbone", "data", "robustness", "losses", "views"),
    (
        "config",
        "confusions",
        "detections",
        "plans",
        "store",
        "naming",
        "reference",
        "plugins",
        "distributed",
        "draws",
        "patches",
        "patience",
        "per_image",
        "locks",
        "log",
        "machine",
        "network",
        "predictions",
        "npz",
        "processes",
        "record",
        "schema",
        "statistics",
        "streams",
        "provenance",
        "failures",
        "files",
        "values",
        "errors",
        "wording",
        "image_files",
    ),
)
ROW_OF = {name: row for row, names in enumerate(ROWS) for name in names}
OPENMMLAB = {"mmengine", "mmcv", "mmseg", "mmdet"}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported_modules(path: Path) -> set[str]:
    """Every module that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import, which this test cannot place"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def area(path: Path) -> str:
    """Top-level folder or module that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module_imports_only_lower_rows(path: Path) -> None:
    own = area(path)
    assert own in ROW_OF, f"{own} has no row: give it one here and in the README's map"
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[0] != "micl_bench" or len(parts) < 2 or parts[1] not in ROW_OF:
            continue
        same_area = parts[1] == own
        both_low_or_top = ROW_OF[parts[1]] == ROW_OF[own] and ROW_OF[own] in (0, len(ROWS) - 1)
        lower = ROW_OF[parts[1]] > ROW_OF[own]
        assert same_area or both_low_or_top or lower, f"{own} must not import {parts[1]}"
        if own == "report":
            assert same_area or ROW_OF[parts[1]] == len(ROWS) - 1, f"report imports {parts[1]}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_openmmlab_imports_openmmlab(path: Path) -> None:
    if area(path) != "openmmlab":
        assert not {module.split(".")[0] for module in imported_modules(path)} & OPENMMLAB


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_the_command_line_that_it_is_called_by(path: Path) -> None:
    if path.name != "__main__.py":
        assert not any(f"{name}.".startswith("micl_bench.cli.") for name in imported_modules(path))


def test_the_guard_sees_an_import_inside_a_function(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from micl_bench.cli import app\n")
    assert imported_modules(file) == {"micl_bench.cli.app"}

"""What a run's outcome depends on, as digests: the content of recipes and of checkpoint files."""

import ast
import functools
from pathlib import Path

from micl_bench.runtime.files import digest_file, digest_files, digest_json

_LONGEST_RECIPE = 4 << 20
_MOST_BASES = 100


@functools.cache
def recipe_digest(path: Path) -> str:
    """SHA-256 of what a recipe says, with the files that it builds on.

    Comments, docstrings and layout do not count, so that a mended comment starts no week of training
    again. What it builds on: mmengine's `_base_`, and relative imports. A file that is not Python counts
    byte by byte; one that is missing counts as missing.
    """
    found: dict[str, str] = {}
    _collect(path.resolve(), found)
    # By order, not by name: moved together, files say the same.
    return digest_json(list(found.values()))


def _collect(path: Path, found: dict[str, str]) -> None:
    if str(path) in found or len(found) >= _MOST_BASES:
        return
    try:
        if path.stat().st_size > _LONGEST_RECIPE:
            raise ValueError("no recipe is so long")
        tree = ast.parse(path.read_bytes())
        for node in ast.walk(tree):
            _drop_docstring(node)
        found[str(path)] = ast.unparse(tree)
    except OSError:
        found[str(path)] = "missing"
        return
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        found[str(path)] = digest_file(path)
        return
    for base in _bases(tree, path.parent):
        _collect(base, found)


def _drop_docstring(node: ast.AST) -> None:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, kinds) and ast.get_docstring(node, clean=False) is not None:
        # A body cannot be empty.
        node.body[0] = ast.Pass()


def _bases(tree: ast.Module, folder: Path) -> list[Path]:
    found: list[Path] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and any(
            isinstance(target, ast.Name) and target.id == "_base_" for target in node.targets
        ):
            listed = (
                node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else [node.value]
            )
            names = [one.value for one in listed if isinstance(one, ast.Constant)]
            # `mmseg::...` is a file of an installed package.
            found += [folder / name for name in names if isinstance(name, str) and "::" not in name]
        elif isinstance(node, ast.ImportFrom) and node.level:
            above = folder
            for _ in range(node.level - 1):
                above = above.parent
            found.append(above.joinpath(*(node.module or "__init__").split(".")).with_suffix(".py"))
    return [path.resolve() for path in found]


@functools.cache
def content_digest(path: Path) -> str:
    """SHA-256 of a checkpoint: a file, or a folder with its files; its name where there is none."""
    if path.is_dir():
        return digest_files(path, [file for file in path.iterdir() if file.is_file()])
    return digest_file(path) if path.is_file() else f"missing: {path}"

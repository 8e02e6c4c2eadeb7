"""One run of a suite: the words of its command, what it needs, and the key that names its folder.

The key is a digest of all that the outcome depends on, the content of recipes and checkpoints too.
"""

import ast
import dataclasses
import functools
import re
import shlex
from pathlib import Path, PurePosixPath
from typing import Any

from micl_bench.records.result import visible_path
from micl_bench.runtime.files import digest_file, digest_files, digest_json
from micl_bench.tasks import PRETRAINING, declared

_LONGEST_PART = 60
_KEY_SHOWN = 8
_LONGEST_RECIPE = 4 << 20
_MOST_BASES = 100


@dataclasses.dataclass(frozen=True)
class Product:
    """A word of a command: a file or folder that another run makes."""

    run: "Run"
    below: str
    """The path below the other run's folder."""

    def shown(self, store: Path) -> str:
        """Return the word as the command has it."""
        return str(self.run.out(store) / self.below)

    def identity(self) -> Any:
        """Return the word as the key has it."""
        return {"made_by": self.run.key, "below": self.below}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A word of a command: a recipe's file."""

    path: Path
    name: str = ""
    """The name of a shipped recipe that was given by name."""

    def shown(self, store: Path) -> str:
        """Return the word as the command has it."""
        return self.name or visible_path(self.path)

    def identity(self) -> Any:
        """Return what the recipe says; where the file lies does not count."""
        return {"recipe": recipe_digest(self.path), "name": self.path.stem}


@dataclasses.dataclass(frozen=True)
class Weights:
    """A word of a command: a checkpoint of the user's, a file or a folder."""

    path: Path

    def shown(self, store: Path) -> str:
        """Return the word as the command has it."""
        return str(self.path)

    def identity(self) -> Any:
        """Return the digest of the content; the place does not count."""
        return {"content": content_digest(self.path)}


Word = str | Product | Recipe | Weights


def checkpoint_word(checkpoint: str) -> Word:
    """Return `timm:NAME` and the like as they are, and anything else as a file."""
    return checkpoint if ":" in checkpoint.partition("/")[0] else Weights(Path(checkpoint))


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One command of `micl-bench` that a suite wants to have succeeded once."""

    name: str
    """`entry/method/values`, unique in its suite; it stays where a recipe changes."""
    entry: str
    task: str
    """`pretrain`, a task of `micl-bench eval`, or `data` for a step that makes data."""
    method: str
    """The method's name in tables."""
    words: tuple[Word, ...]
    """The command after `micl-bench`, without `--out`."""
    data: str
    """The data folder as the suite file names it."""
    start: str = ""
    """Name of its checkpoint in the suite file."""
    seed: int | None = None
    """The seed of the pre-training; None for the recipe's own."""
    drawn: int | None = None
    """The seed of the evaluation; None for the recipe's own."""
    values: tuple[tuple[str, str], ...] = ()
    """Key and value of what differs between the runs of an entry, the seed left out."""
    after: tuple["Run", ...] = ()
    """Runs that go first where they are due, but are not needed."""
    processes: int = 1

    @functools.cached_property
    def needs(self) -> tuple["Run", ...]:
        """Runs without whose outcome this one cannot be."""
        runs = [word.run for word in self.words if isinstance(word, Product)]
        return tuple(dict.fromkeys(runs))

    @property
    def title(self) -> str:
        """The task as headings print it."""
        return self.task if self.task == "data" else declared(self.task).title

    @property
    def resumes(self) -> bool:
        """True where the command continues from what it left in its folder."""
        return self.task == "data" or declared(self.task).resumes

    @functools.cached_property
    def parts(self) -> dict[str, Any]:
        """The values that the key is the digest of, in parts, to name what changed."""
        recipe = [word.identity() for word in self.words if isinstance(word, Recipe)]
        given = [word.identity() for word in self.words if isinstance(word, Weights)]
        needs = [word.identity() for word in self.words if isinstance(word, Product)]
        words = [word if isinstance(word, str) else None for word in self.words]
        return {"command": words, "recipe": recipe, "checkpoint": given, "needs": needs}

    @functools.cached_property
    def key(self) -> str:
        """Digest of all that the outcome depends on, as far as it can be seen before running."""
        return digest_json(self.parts)

    @functools.cached_property
    def folder(self) -> PurePosixPath:
        """Relative to the store; a function of the key's parts, so that suites share runs."""
        if self.task == "data":
            return PurePosixPath("data") / f"{self.words[1]}-{self.key[:_KEY_SHOWN]}"
        named = next((w.path.stem for w in self.words if isinstance(w, Recipe)), "")
        who = named if self.task == PRETRAINING.name else self.method
        pairs = list(zip(self.words, self.words[1:], strict=False))
        sets = [text for flag, text in pairs if flag == "--set" and isinstance(text, str)]
        sets += [f"seed={seed}" for flag, seed in pairs if flag == "--pretrain-seed"]
        label = ",".join(_short(text) for text in sets)
        parts = [self.task, who, "-".join(filter(None, (label[:_LONGEST_PART], "KEY")))]
        names = [_file_name(part) for part in parts]
        return PurePosixPath(*names[:-1], names[-1].replace("KEY", self.key[:_KEY_SHOWN]))

    def out(self, store: Path) -> Path:
        """Return the folder that the command gets as `--out`."""
        # `data embedded` wants a folder that holds nothing else.
        return store / self.folder / ("data" if self.task == "data" else "")

    def arguments(self, store: Path) -> list[str]:
        """The command, after `micl-bench`."""
        words = [word if isinstance(word, str) else word.shown(store) for word in self.words]
        return [*words, "--out", str(self.out(store))]

    def command(self, store: Path) -> str:
        """The command as one types it."""
        return shlex.join(["micl-bench", *self.arguments(store)])


def features_together(runs: list[Run]) -> list[Run]:
    """Reorder runs: those that read features come right behind the run that computes them."""
    followers: dict[str, list[Run]] = {}
    for run in runs:
        for first in run.after:
            followers.setdefault(first.key, []).append(run)
    ordered = []
    for run in runs:
        if not run.after:
            ordered += [run, *followers.get(run.key, [])]
    return ordered


def _short(override: str) -> str:
    """`training.epochs=3` as `epochs=3`."""
    key, _, value = override.partition("=")
    return f"{key.rpartition('.')[2]}={value}"


def _file_name(word: str) -> str:
    """A word as part of a path, still readable: no separator, no hidden name, not too long."""
    name = re.sub(r"[^\w.,=+-]+", "_", word).strip("._")
    return name.encode()[: 3 * _LONGEST_PART].decode(errors="ignore") or "_"


@functools.cache
def recipe_digest(path: Path) -> str:
    """SHA-256 of what a recipe says, with the files that it builds on.

    Comments, docstrings and layout do not count, so that another comment starts no week of training
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

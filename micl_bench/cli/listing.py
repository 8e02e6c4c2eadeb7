"""The lists of `micl-bench list`: one line per entry."""

import itertools
from collections.abc import Callable
from pathlib import Path

from micl_bench.runtime import plugins, shipped
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.terminal import columns_text


def listing_of(kind: str) -> str:
    """Return a line for each entry of one kind, as text.

    Raises:
        InputError: there is no such kind.
    """
    if kind not in _KINDS:
        raise InputError(f"nothing is listed under {kind!r}; known: {', '.join(_KINDS)}")
    entries = _KINDS[kind]()
    return columns_text(entries.items())


def _architectures() -> dict[str, str]:
    from micl_bench.backbone import arch_names, named_arch

    found = {name: named_arch(name) for name in arch_names()}
    return {
        name: f"width {arch.width}, depth {arch.depth}, {arch.num_heads} heads, patches of "
        f"{arch.patch_size} px, input {arch.img_size} px"
        for name, arch in found.items()
    }


def _checkpoints() -> dict[str, str]:
    from micl_bench.checkpoints._public import public_checkpoints

    return {
        row.name: f"{row.method}; {row.arch}; format {row.format}; {row.licence}"
        + ("" if row.access == "open" else f"; {row.access}: {row.url}")
        for row in public_checkpoints().values()
    }


def _published() -> dict[str, str]:
    """List the ledger's methods: how many numbers each has, and of which tasks and architectures."""
    from micl_bench.records.published import read_references

    rows = read_references()
    found = {}
    for method in sorted({row.method for row in rows}, key=str.lower):
        own = [row for row in rows if row.method == method]
        tasks, archs = ({getattr(row, name): None for row in own} for name in ("task", "arch"))
        found[method] = f"{len(own)} numbers; {', '.join(tasks)}; {', '.join(archs)}"
    return found


def _tasks() -> dict[str, str]:
    """List the tasks of `eval`, each with its metrics as tables head them."""
    from micl_bench.tasks import declared

    metrics = {
        name: f" Metrics: {', '.join(metric.shown for metric in task.metrics)}."
        for name, task in plugins.every("tasks", declared).items()
    }
    return {name: text + metrics.get(name, "") for name, text in plugins.names("tasks").items()}


def _first_comment(path: Path) -> str:
    """Return a file's first comment, up to the first colon or full stop at a line's end."""
    lines = itertools.takewhile(lambda line: line[:1] == "#", path.read_text("utf-8").splitlines())
    words = []
    for line in lines:
        words.append(line[1:].strip())
        if line.endswith((".", ":")):
            break
    return " ".join(words).rstrip(".:")


_KINDS: dict[str, Callable[[], dict[str, str]]] = {
    "tasks": _tasks,
    "robustness": lambda: plugins.names("robustness"),
    "objectives": lambda: plugins.names("objectives"),
    "formats": lambda: plugins.names("checkpoints"),
    "sources": lambda: plugins.names("data.sources"),
    "checkpoints": _checkpoints,
    "published": _published,
    "architectures": _architectures,
    "recipes": lambda: {name: plugins.summary(path) for name, path in shipped.recipes().items()},
    "suites": lambda: {name: _first_comment(path) for name, path in shipped.suites().items()},
}
KINDS = tuple(_KINDS)

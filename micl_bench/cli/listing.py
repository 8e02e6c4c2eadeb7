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
        + ("" if arch.class_token else ", no [CLS]")
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

    texts = plugins.names("tasks")
    return {
        name: f"{texts[name]} Metrics: {', '.join(metric.shown for metric in task.metrics)}."
        for name, task in plugins.every("tasks", declared).items()
    }


# These import what may need torch, so they are called for plug-ins from outside alone.
def _robustness_set(name: str) -> object:
    from micl_bench.robustness import find_set

    return find_set(name)


def _objective(name: str) -> object:
    from micl_bench.objectives import find_objective

    return find_objective(name)


def _format(name: str) -> object:
    from micl_bench.checkpoints._read_file import find_format

    return find_format(name)


def _source(name: str) -> object:
    from micl_bench.data.source import find_source

    return find_source(name)


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
    "robustness": lambda: plugins.usable("robustness", _robustness_set),
    "objectives": lambda: plugins.usable("objectives", _objective),
    "formats": lambda: plugins.usable("checkpoints", _format),
    "sources": lambda: plugins.usable("data.sources", _source),
    "checkpoints": _checkpoints,
    "published": _published,
    "architectures": _architectures,
    "recipes": lambda: {name: plugins.summary(path) for name, path in shipped.recipes().items()},
    "suites": lambda: {name: _first_comment(path) for name, path in shipped.suites().items()},
}
KINDS = tuple(_KINDS)

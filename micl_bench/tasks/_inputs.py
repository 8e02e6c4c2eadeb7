"""What a call would measure, so that a record that is there can be told from one of other inputs."""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from micl_bench.checkpoints import digest_of
from micl_bench.data.image_files import name_text
from micl_bench.data.packed.store import HEADER_FILE
from micl_bench.data.source import named_source, open_source
from micl_bench.records.result import Result
from micl_bench.robustness import find_set
from micl_bench.runtime import plugins
from micl_bench.runtime.config import resolve, to_dict
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file, digest_json, files_below
from micl_bench.tasks import declared, running
from micl_bench.tasks._request import Request
from micl_bench.tasks._session import PlainRecipe

_DRAWN_OR_PUBLISHED = ("random:", "timm:", "public:")


def recipe_kind(task: str) -> type[Any]:
    """The dataclass that `--recipe` and `--set` of a task are read as."""
    kind: type[Any] = getattr(running(task), "RECIPE", PlainRecipe)
    return kind


def inputs_of(request: Request, task: str) -> dict[str, str]:
    """Digests of the resolved recipe, of the data, and of a task from outside, for records' details.

    Images count by their names and sizes, what tells their labels by its content.

    Raises:
        InputError: a recipe that cannot be resolved.
    """
    inputs = _of_config(request) if declared(task).from_config else _of_recipe(request, task)
    code = plugins.digest("tasks", task)
    return inputs | ({"task": code} if code else {})


def _of_recipe(request: Request, task: str) -> dict[str, str]:
    recipe: Any = resolve(recipe_kind(task), request.recipe, request.overrides)
    content, labels = [to_dict(recipe)], Path(getattr(recipe, "labels", ""))
    if labels.is_file():
        content.append({"labels": digest_file(labels)})
    places, mappings = ["train", "val"], []
    if names := getattr(recipe, "sets", ()):
        sets = [find_set(name) for name in names]
        places = [str(part) for one in sets for part in (*one.parts, one.clean.folder)]
        mappings = [str(one.folder.parent / "mappings") for one in sets if one.labels == "mappings"]
    if named_source(request.data)[0]:
        digests = [_digest_of(request.data / place) for place in places]
        return {"recipe": digest_json(content), "data": digest_json(digests)}
    listed = _listing(request.data, sorted({*places, *mappings}), labels=mappings)
    return {"recipe": digest_json(content), "data": listed}


def other_input(result: Result, request: Request, inputs: dict[str, str]) -> str:
    """Which of a call's inputs is not the one that a record was made of; empty if none."""
    if result.command != request.command:
        return "command"
    if not isinstance(request.checkpoint, str):
        if request.checkpoint.info.digest != result.checkpoint.digest:
            return "checkpoint"
    elif not request.checkpoint.startswith(_DRAWN_OR_PUBLISHED):
        path = Path(request.checkpoint)
        if not path.exists() or digest_of(path) != result.checkpoint.digest:
            return "checkpoint"
    before = result.details.get("inputs", {})
    return next((name for name in inputs if inputs[name] != before.get(name)), "")


def _of_config(request: Request) -> dict[str, str]:
    """Of an mmengine config with all that it is based on, and of the data that it reads."""
    if request.recipe is None:
        return {"recipe": "", "data": ""}
    from micl_bench.openmmlab.configs import as_json, read, with_data
    from micl_bench.openmmlab.data_digests import data_digests
    from micl_bench.openmmlab.isolation import quiet

    with quiet(io.StringIO()):
        config = read(request.recipe, request.overrides)
        data = data_digests(with_data(config, request.recipe, request.data))
        return {"recipe": digest_json(as_json(config)), "data": digest_json(data)}


def _digest_of(place: Path) -> str:
    """Of what an image source has there; empty where it has nothing, which the task itself names."""
    try:
        return open_source(place).describe().digest
    except InputError:
        return ""


def _listing(data: Path, places: list[str], *, labels: list[str]) -> str:
    """Of images by names and sizes, of labels by content. Never refuses: what is missing or cannot
    be read, the task itself names."""
    known: dict[str, Any] = {}
    for place in places:
        read = digest_file if place in labels else _size
        for file in files_below(data / place):
            known[name_text(os.path.relpath(file, data))] = _known(file, read)
        if (header := data / place / HEADER_FILE).is_file():
            # A store's files have the same sizes whatever is in them.
            known[f"{place}/"] = digest_file(header)
    return digest_json(known)


def _known(file: Path, read: Callable[[Path], int | str]) -> int | str:
    try:
        return read(file)
    except OSError:
        return -1


def _size(file: Path) -> int:
    return file.stat().st_size

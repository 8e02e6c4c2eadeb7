"""The folder that an evaluation writes to, and the records that an earlier call left in it."""

import dataclasses
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from micl_bench.checkpoints import digest_of
from micl_bench.data.image_files import name_text
from micl_bench.data.packed.store import HEADER_FILE
from micl_bench.data.source import named_source, open_source
from micl_bench.records.result import Record, Result, read_result, record_file
from micl_bench.robustness import find_set
from micl_bench.runtime import plugins
from micl_bench.runtime.config import resolve, to_dict
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import (
    atomic_write,
    digest_file,
    digest_json,
    sweep,
    write_once,
)
from micl_bench.runtime.folders import files_below
from micl_bench.runtime.locks import turn
from micl_bench.runtime.log import say
from micl_bench.runtime.validate import read_json
from micl_bench.tasks import declared, declared_tasks, running
from micl_bench.tasks._frozen import PlainRecipe
from micl_bench.tasks._request import Request

_DRAWN_OR_PUBLISHED = ("random:", "timm:", "public:")


@contextmanager
def own_folder(out: Path, task: str) -> Iterator[None]:
    """Keep other processes from evaluating the same task into the same folder meanwhile.

    Raises:
        InputError: one does it already, or the folder is a file or holds files that the task would
            replace.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    with turn(out / f".{task}.lock", f"evaluating {task} into {out}"):
        # Here, as a call that finds its records writes nothing, which would sweep too.
        sweep(out)
        # They leave files of fixed names beside their records: classifier, states, log.
        training = [name for name, one in declared_tasks().items() if one.resumes]
        for kind in training if task in training else ():
            if kind != task and any(out.glob(f"{kind}-*.json")):
                raise InputError(
                    f"--out {out} holds a {kind} result, whose files {task} would replace; give another "
                    "folder"
                )
        yield


def recipe_kind(task: str) -> type[Any]:
    """The dataclass that `--recipe` and `--set` of a task are read as."""
    kind: type[Any] = getattr(running(task), "RECIPE", PlainRecipe)
    return kind


def inputs_of(request: Request, task: str) -> dict[str, str]:
    """Digests of the resolved recipe, of the data, and of a task from outside, for records' details.

    Images count by their names and sizes, files with their labels by their content.
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
        data: Any = [_digest_of(request.data / place) for place in places]
    else:
        data = _listing(request.data, sorted({*places, *mappings}), labels=mappings)
    return {"recipe": digest_json(content), "data": digest_json(data)}


def _of_config(request: Request) -> dict[str, str]:
    """Digests of an mmengine config with all that it is based on, and of the data that it reads."""
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
    """The digest of an image source's images there; empty without any, which the task reports."""
    try:
        return open_source(place).describe().digest
    except InputError:
        return ""


def _listing(data: Path, places: list[str], *, labels: list[str]) -> dict[str, int | str]:
    """The sizes of images and the digests of label files, by name. Nothing is refused here: the task
    reports files that are missing or cannot be read."""
    known: dict[str, int | str] = {}
    for place in places:
        read: Callable[[Path], int | str] = digest_file if place in labels else _size
        for file in files_below(data / place):
            try:
                known[name_text(os.path.relpath(file, data))] = read(file)
            except OSError:
                known[name_text(os.path.relpath(file, data))] = -1
        if (header := data / place / HEADER_FILE).is_file():
            # A store's files have the same sizes whatever is in them.
            known[f"{place}/"] = digest_file(header)
    return known


def _size(file: Path) -> int:
    return file.stat().st_size


def _other_input(result: Result, request: Request, inputs: dict[str, str]) -> str:
    """The input of a call that is not the one of a record, or an empty string."""
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


def records_before(request: Request, task: str, inputs: dict[str, str]) -> list[Result]:
    """The records that an earlier, equal call left; none where this one has to run.

    The records that a killed call had begun to write are written to the end.

    Raises:
        InputError: the folder holds a result of the task of another command or of other inputs.
    """
    out = request.out
    _write_pending(out, task)
    found = {path: read_result(path) for path in sorted(out.glob(f"{task}-*.json"))}
    for result in found.values():
        if other := _other_input(result, request, inputs):
            raise InputError(
                f"--out {out} holds a {task} result of another {other} already; give another folder"
            )
    for path in found:
        say(f"{path} is there: this command has written it before; nothing to do")
    return list(found.values())


def write_records(
    out: Path, task: str, results: Sequence[Result], inputs: dict[str, str]
) -> list[Result]:
    """Write all records of a call, and return them: killed in between, the next call writes the
    rest. The same call again knows them by their inputs."""
    results = [
        dataclasses.replace(one, details={**one.details, "inputs": inputs}) for one in results
    ]
    files = dict(map(record_file, results))
    if len(files) > 1:
        content = {name: text.decode() for name, text in files.items()}
        atomic_write(_pending(out, task), json.dumps(content).encode())
    for name, text in files.items():
        write_once(out / name, text)
    _pending(out, task).unlink(missing_ok=True)
    return [Record.of(one, out / name) for name, one in zip(files, results, strict=True)]


def _write_pending(out: Path, task: str) -> None:
    path = _pending(out, task)
    if not path.is_file():
        return
    try:
        texts = read_json(path, dict[str, str])
    except InputError as error:
        raise InputError(
            f"{error}; an interrupted call left it: remove it with the {task} records in {out}, and "
            "call again"
        ) from error
    for name, text in texts.items():
        if Path(name).name != name or not name.startswith(f"{task}-"):
            raise InputError(f"{path} names a file that is no {task} record; remove it")
        write_once(out / name, text.encode())
    path.unlink(missing_ok=True)


def _pending(out: Path, task: str) -> Path:
    return out / f".{task}.pending"

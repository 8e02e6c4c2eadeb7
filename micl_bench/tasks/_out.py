"""The folder that an evaluation writes to: whose it is, and what a killed one left in it."""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from micl_bench.records.result import Result, read_result, record_file
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_write, sweep, write_once
from micl_bench.runtime.locks import turn
from micl_bench.runtime.log import say
from micl_bench.runtime.validate import read_json
from micl_bench.tasks import declared_tasks
from micl_bench.tasks._inputs import other_input
from micl_bench.tasks._request import Request


@contextmanager
def own_folder(out: Path, task: str) -> Iterator[None]:
    """Keep other processes from evaluating the same task into the same folder meanwhile.

    Raises:
        InputError: one is at it, or the folder is a file or holds what the task would replace.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    with turn(out / f".{task}.lock", f"evaluating {task} into {out}"):
        # A call that finds its record writes nothing that would.
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


def records_before(
    request: Request, task: str, inputs: dict[str, str]
) -> list[tuple[Path, Result]]:
    """The records that an earlier call left of what this one would measure; none where it has to run.

    What a call was killed in the middle of writing is written to its end.

    Args:
        inputs: as `inputs_of` gives them.

    Raises:
        InputError: the folder holds a result of the task of another command or of other inputs.
    """
    out = request.out
    _write_pending(out, task)
    found: list[tuple[Path, Result]] = []
    for path in sorted(out.glob(f"{task}-*.json")):
        result = read_result(path)
        if other := other_input(result, request, inputs):
            raise InputError(
                f"--out {out} holds a {task} result of another {other} already; give another folder"
            )
        found.append((path, result))
    for path, _ in found:
        say(f"{path} is there: this command has written it before; nothing to do")
    return found


def write_records(
    out: Path, task: str, results: Sequence[Result], inputs: dict[str, str]
) -> list[tuple[Path, Result]]:
    """Write all records of a call: killed in between, the next call writes the rest.

    Args:
        inputs: what was measured, by which the same call again knows its own records.
    """
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
    return [(out / name, one) for name, one in zip(files, results, strict=True)]


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

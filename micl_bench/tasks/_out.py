"""The folder that an evaluation writes to: whose it is, and what a killed one left in it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from micl_bench.errors import InputError
from micl_bench.files import atomic_write, write_once
from micl_bench.locks import turn
from micl_bench.log import say
from micl_bench.record import Result, read_result, record_file

_TRAIN = ("pretrain", "finetune", "linear", "ade20k", "coco")
"""Tasks that leave files of fixed names beside their record: classifier, states, log."""


@contextmanager
def own_folder(out: Path, task: str) -> Iterator[None]:
    """Keep other processes from evaluating the same task into the same folder meanwhile.

    Raises:
        InputError: one is at it.
    """
    with turn(out / f".{task}.lock", f"evaluating {task} into {out}"):
        yield


def records_before(out: Path, task: str, command: str) -> list[tuple[Path, Result]]:
    """The records that an earlier call of the same command left; none where it has to be run.

    What a call was killed in the middle of writing is written to its end.

    Raises:
        InputError: the folder holds another command's result of the task, or is a file.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; give a folder")
    kinds = _TRAIN if task in _TRAIN else (task,)
    for kind in kinds:
        if kind != task and any(out.glob(f"{kind}-*.json")):
            raise InputError(
                f"--out {out} holds a {kind} result, whose files {task} would replace; give another "
                "folder"
            )
    _write_pending(out, task)
    found = []
    for path in sorted(out.glob(f"{task}-*.json")):
        result = read_result(path)
        if result.command != command:
            raise InputError(
                f"--out {out} holds a {task} result of another command already; give another folder"
            )
        found.append((path, result))
    for path, _ in found:
        say(f"{path} is there: this command has written it before; nothing to do")
    return found


def write_records(out: Path, task: str, results: Sequence[Result]) -> list[Path]:
    """Write all records of a call: killed in between, the next call writes the rest."""
    files = dict(map(record_file, results))
    if len(files) > 1:
        content = {name: text.decode() for name, text in files.items()}
        atomic_write(_pending(out, task), json.dumps(content).encode())
    for name, text in files.items():
        write_once(out / name, text)
    _pending(out, task).unlink(missing_ok=True)
    return [out / name for name in files]


def _write_pending(out: Path, task: str) -> None:
    path = _pending(out, task)
    if not path.is_file():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        texts = {str(name): str(text).encode() for name, text in content.items()}
    except (ValueError, AttributeError) as error:
        raise InputError(
            f"{path}, which an interrupted call left, is damaged; remove it with the {task} records "
            f"in {out}, and call again"
        ) from error
    for name, text in texts.items():
        if Path(name).name != name or not name.startswith(f"{task}-"):
            raise InputError(f"{path} names a file that is no {task} record; remove it")
        write_once(out / name, text)
    path.unlink(missing_ok=True)


def _pending(out: Path, task: str) -> Path:
    return out / f".{task}.pending"

"""The store: a folder of records, at any depth, read whole, with the files in it that are damaged."""

import dataclasses
import re
from pathlib import Path

from micl_bench.records.result import Record, read_result
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import printable, say

_BEGINNING = re.compile(rb'"schema"\s*:\s*"micl-bench/result/')
# A record that is empty or cut, or whose keys were sorted, still has its name.
_FILE_NAME = re.compile(r".*-[0-9a-f]{10}\.json")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Damaged:
    """A file of a store that claims to be a record, or a plan, and cannot be read as one."""

    path: Path
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Store:
    """The content of a folder of records."""

    records: list[Record]
    """Records, oldest first."""
    damaged: list[Damaged]


def read_store(folder: Path) -> Store:
    """Return all records below a folder, and damaged ones; other JSON files are passed over.

    A list, or a link to nowhere, counts as damaged, as it may have been meant as records.

    Raises:
        InputError: the folder is missing.
    """
    if not folder.is_dir():
        raise InputError(f"no results folder at {folder}")
    records: list[Record] = []
    damaged = []
    for path in sorted(folder.rglob("*.json")):
        try:
            if _claims_schema(path):
                records.append(read_result(path))
        except InputError as error:
            damaged.append(Damaged(path=path, reason=str(error)))
    # The id decides between equal times, so that the order does not depend on where files lie.
    records.sort(key=lambda record: (record.start, record.id, record.path))
    return Store(records=records, damaged=damaged)


def read_results(folder: Path) -> list[Record]:
    """Return all records below a folder, oldest first; damaged ones are named on the terminal.

    Raises:
        InputError: the folder is missing or holds no readable record.
    """
    store = read_store(folder)
    for damaged in store.damaged:
        say(printable(f"skipped: {damaged.reason}"))
    if not store.records:
        skipped = f" ({len(store.damaged)} damaged)" if store.damaged else ""
        raise InputError(f"no result record below {folder}{skipped}; `micl-bench eval` writes them")
    return store.records


def _claims_schema(path: Path) -> bool:
    if not path.is_file():
        if path.is_symlink() and not path.exists():
            raise InputError(f"{path} is a link to nowhere; restore what it leads to, or remove it")
        if _FILE_NAME.fullmatch(path.name):
            raise InputError(f"{path} is called like a result record and is no file; remove it")
        return False
    if _FILE_NAME.fullmatch(path.name):
        return True
    try:
        with path.open("rb") as file:
            beginning = file.read(200)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    is_record = _BEGINNING.search(beginning) is not None
    if is_record and beginning.lstrip().startswith(b"["):
        raise InputError(
            f"{path} is a list, and a result record is one object; write each by itself"
        )
    return is_record

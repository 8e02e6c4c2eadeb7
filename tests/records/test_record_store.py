"""A store of records is read whole; damaged files in it are named and skipped."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Run

from micl_bench.records.result import SCHEMA, Result, record_file, write_result
from micl_bench.records.store import read_results, read_store
from micl_bench.runtime.errors import InputError


@pytest.mark.parametrize("damage", ["", "\0" * 500, "sorted", "compact"])
def test_a_record_without_its_beginning_is_not_skipped_silently(
    tmp_path: Path, result: Result, damage: str
) -> None:
    path = write_result(result, tmp_path)
    content = json.loads(path.read_text())
    if damage == "sorted":
        damage = json.dumps(content | {"seed": 9}, sort_keys=True, indent=1)
    elif damage == "compact":
        damage = json.dumps(content | {"seed": 9}, separators=(",", ":"))
        path = path.rename(tmp_path / "renamed.json")
    path.write_text(damage)
    assert [damaged.path for damaged in read_store(tmp_path).damaged] == [path]


def test_damaged_records_are_named_and_skipped(
    tmp_path: Path, result: Result, capsys: pytest.CaptureFixture[str]
) -> None:
    write_result(result, tmp_path / "good")
    for name, text in (
        ("cut", f'{{\n  "schema": "{SCHEMA}",\n  "id'),
        ("edited", json.dumps(json.loads(record_file(result)[1]) | {"seed": 4})),
        ("binary", f'{{"schema": "{SCHEMA}", "task": "\udcff"}}'),
    ):
        (tmp_path / f"{name}.json").write_bytes(text.encode(errors="surrogateescape"))
    (tmp_path / "settings.json").write_text('{"no": "record"}')
    (tmp_path / "folder.json").mkdir()
    store = read_store(tmp_path)
    assert [found.id for found in store.records] == [result.id]
    assert [damaged.path.name for damaged in store.damaged] == [
        "binary.json",
        "cut.json",
        "edited.json",
    ]
    assert read_results(tmp_path) == store.records
    said = capsys.readouterr().err.splitlines()
    assert [line.startswith("skipped: ") for line in said] == [True] * 3
    assert "cut.json is not a result record" in said[1]
    assert "edited.json was changed after it was written, or renamed" in said[2]


def test_what_is_no_record_among_records_is_named_and_the_rest_is_reported(
    tmp_path: Path, result: Result, micl_bench: Run
) -> None:
    """Also under the name of a record: a task and ten digits."""
    makes: list[tuple[str, Callable[[Path], object], str]] = [
        ("x0", lambda path: path.write_text(f'\n [{{"schema": "{SCHEMA}"}}]'), "is a list"),
        ("knn-0000000001", lambda path: path.write_text("[]"), "needed: a mapping"),
        ("knn-0000000002", lambda path: path.write_text('"a"'), "needed: a mapping"),
        ("x3", lambda path: path.symlink_to("gone.json"), "is a link to nowhere"),
        ("x4", lambda path: path.symlink_to("x4.json"), "is a link to nowhere"),
        ("knn-0000000005", lambda path: path.symlink_to("gone"), "is a link to nowhere"),
        ("knn-0000000006", lambda path: path.mkdir(), "is no file"),
        ("knn-0000000007", os.mkfifo, "is no file"),
    ]
    write_result(result, tmp_path / "store")
    for name, make, _ in makes:
        make(tmp_path / "store" / f"{name}.json")
    done = micl_bench("report", "--results", tmp_path / "store", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    said = [line for line in (done.stdout + done.stderr).splitlines() if "skipped: " in line]
    assert len(said) == len(makes)
    for name, _, words in makes:
        (line,) = [line for line in said if f"{name}.json" in line]
        assert words in line
    assert list((tmp_path / "out").iterdir())


def test_a_store_of_damaged_records_alone_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"schema": SCHEMA}))
    with pytest.raises(InputError, match=r"no result record .* \(1 damaged\)"):
        read_results(tmp_path)


def test_the_order_of_a_store_does_not_depend_on_where_its_files_lie(
    tmp_path: Path, result: Result
) -> None:
    records = [dataclasses.replace(result, seed=seed) for seed in range(6)]
    for place, order in (("one", records), ("two", records[::-1])):
        for number, record in enumerate(order):
            write_result(record, tmp_path / place / str(number))
    one, two = ([r.id for r in read_store(tmp_path / place).records] for place in ("one", "two"))
    assert one == two


def test_a_store_is_read_whole_with_its_copies_and_its_damaged_files(
    tmp_path: Path, result: Result
) -> None:
    for seed in range(7):
        write_result(dataclasses.replace(result, seed=seed), tmp_path / str(seed % 3))
    for number in range(4):
        (tmp_path / f"cut-{number:010x}.json").write_text("{")
    (tmp_path / "other.json").write_text("{}")
    for copy in "abc":
        write_result(result, tmp_path / copy)
    store = read_store(tmp_path)
    assert (len(store.records), len(store.damaged)) == (10, 4)
    assert store.records == sorted(store.records, key=lambda one: (one.start, one.id))
    assert store.damaged == sorted(store.damaged, key=lambda damaged: damaged.path)

"""Records survive the disk unchanged, are never half written, and are refused once they were edited."""

import dataclasses
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import intervals_in, values_in

from micl_bench.records.provenance import Measurement, Subject
from micl_bench.records.result import SCHEMA, DataSet, Record, Result, read_result, write_result
from micl_bench.records.store import read_store
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_path, digest_json
from micl_bench.tasks import Metric, Task, declared

KNN = declared("knn")


def number(**changes: Any) -> dict[str, Any]:
    """A change of a record's only number."""
    whole = KNN.number("top1", 91.25, interval=(90.0, 92.0))
    return {"metrics": {"top1": {**dataclasses.asdict(whole), **changes}}}


def test_a_record_comes_back_as_it_was_written(tmp_path: Path, result: Result) -> None:
    path = write_result(result, tmp_path)
    assert read_result(path) == Record.of(result, path)
    assert path.stem == result.id == read_result(path).id
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_record_says_where_its_number_comes_from(result: Result) -> None:
    assert result.environment["torch"]
    assert result.environment["threads"] == str(torch.get_num_threads())
    assert result.code_version.startswith("0.1.0")
    assert len(result.recipe_digest) == 64
    assert result.device_hours == pytest.approx(result.seconds / 3600, abs=1e-6)


def test_an_edited_record_is_refused(tmp_path: Path, result: Result) -> None:
    path = write_result(result, tmp_path)
    content = json.loads(path.read_text())
    content["metrics"]["top1"]["value"] = 99.9
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="was changed after it was written"):
        read_result(path)


@pytest.mark.parametrize("schema", ["micl-bench/result/1", "micl-bench/result/3"])
def test_a_record_of_another_schema_is_refused_by_name(
    tmp_path: Path, result: Result, schema: str
) -> None:
    path = write_result(result, tmp_path)
    content = json.loads(path.read_text())
    del content["settings"], content["fingerprint"], content["about"], content["details"]
    path.write_text(json.dumps({**content, "schema": schema, "unknown": 1}))
    with pytest.raises(InputError) as caught:
        read_result(path)
    message = str(caught.value)
    assert f"it has schema {schema!r}, this version reads {SCHEMA!r}" in message
    assert path.name in message
    assert "\n" not in message


def test_a_fingerprint_that_is_not_of_the_settings_is_refused(
    tmp_path: Path, result: Result
) -> None:
    assert result.fingerprint == digest_json({"task": "knn", "k": 20})
    path = tmp_path / "x.json"
    path.write_text(json.dumps(_broken(result, {"settings": {"k": 10}})))
    with pytest.raises(InputError, match="not the digest of its settings"):
        read_result(path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"schema": SCHEMA})])
def test_a_damaged_record_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.json is not a result record"):
        read_result(path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def _broken(result: Result, change: dict[str, Any]) -> dict[str, Any]:
    """A record's content with some fields changed."""
    return {"schema": SCHEMA, **json.loads(json.dumps({**dataclasses.asdict(result), **change}))}


def _nested(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {}
    for _ in range(levels):
        inner = {"a": inner}
    return inner


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"seed": "3"}, "$.seed is '3'; needed: a whole number"),
        ({"seed": True}, "$.seed is True; needed: a whole number"),
        ({"seconds": -1.0}, "negative"),
        ({"metrics": {}}, "metrics is empty"),
        ({"metrics": {"top1": 91.0}}, "$.metrics.top1 is 91.0; needed: a mapping"),
        (number(value="91"), "$.metrics.top1.value is '91'; needed: a number"),
        (number(value=math.inf), "not valid JSON at byte"),
        (number(high=None), "metrics.top1 must have both ends of its interval, or none"),
        (number(better="bigger"), "$.metrics.top1.better is 'bigger'; needed: 'higher' or 'lower'"),
        ({"metrics": {"top1": {"value": 1.0}}}, "$.metrics.top1 has no title"),
        ({"start": "yesterday"}, "$.start is 'yesterday'; needed: a time in ISO 8601"),
        ({"data": None}, "$.data is None; needed: a mapping"),
        ({"data": {"name": "x"}}, "$.data has no split, images, digest"),
        ({"artifacts": ["a"]}, "$.artifacts is ['a']; needed: a mapping"),
        ({"mood": "fine"}, "$ has mood; known: about, arch, artifacts"),
        (
            {"checkpoint": {"source": "a", "format": "b", "digest": "c", "origin": [{}]}},
            "$.checkpoint.origin[0] has no task, method",
        ),
        (number(value=10**400), "$.metrics.top1.value is a whole number of more than 64 bits"),
        (
            {"details": {"grid": [[-(2**63)]]}},
            "$.details.grid[0][0] is a whole number of more than 64",
        ),
        ({"recipe": _nested(100)}, "nested more than 64 levels deep"),
    ],
)
def test_a_field_that_is_not_as_it_must_be_is_named(
    tmp_path: Path, result: Result, change: dict[str, Any], complaint: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(_broken(result, change)))
    with pytest.raises(InputError, match=re.escape(complaint)):
        read_result(path)


def _refuse(text: str) -> float:
    raise AssertionError(f"{text} is not JSON")


def test_an_undefined_metric_is_null_with_its_reason(tmp_path: Path, result: Result) -> None:
    unknown = dataclasses.replace(
        result,
        metrics={
            "top1": KNN.number(
                "top1", math.nan, interval=[math.nan] * 2, undefined="no image counts for it"
            ),
            "top5": KNN.number("top5", 90.0, interval=[88.0, 92.0]),
        },
        details={"by_class": [math.nan, {"a": math.nan}]},
    )
    path = write_result(unknown, tmp_path)
    content = json.loads(path.read_text(), parse_constant=_refuse)
    assert values_in(content) == {"top1": None, "top5": 90.0}
    assert intervals_in(content) == {"top5": [88.0, 92.0]}
    assert content["details"] == {"by_class": [None, {"a": None}]}
    read = read_result(path)
    assert math.isnan(read.values["top1"])
    assert read.metrics["top1"].undefined == "no image counts for it"
    assert read.id == unknown.id == path.stem


@pytest.mark.parametrize(
    ("value", "undefined"),
    [(math.nan, ""), (1.0, "no image")],
)
def test_a_metric_is_null_exactly_where_a_reason_is_given(
    tmp_path: Path, result: Result, value: float, undefined: str
) -> None:
    number = dataclasses.replace(result.metrics["top1"], value=value, undefined=undefined)
    wrong = dataclasses.replace(result, metrics={"top1": number})
    with pytest.raises(ValueError, match="must be null exactly where undefined says why"):
        write_result(wrong, tmp_path)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_a_record_that_is_not_json_is_refused(tmp_path: Path, result: Result, word: str) -> None:
    path = write_result(result, tmp_path)
    path.write_text(path.read_text().replace("91.25", word))
    with pytest.raises(InputError, match=f"is not valid JSON at byte .*{word[-8:]}"):
        read_result(path)


def test_a_builder_gives_a_reason_for_what_it_could_not_measure(
    subject: Subject, result: Result
) -> None:
    empty = Measurement(command="x").result(
        KNN, subject, {"top1": math.nan, "top5": 1.0}, protocol="", data=result.data, settings={}
    )
    assert empty.metrics["top1"].undefined == "these images do not define it"
    assert empty.metrics["top5"].undefined == ""


def test_a_record_repeats_what_its_task_and_metrics_declare(tmp_path: Path, result: Result) -> None:
    content = json.loads(write_result(result, tmp_path).read_text())
    assert content["about"]["title"] == "k-NN"
    stated = content["metrics"]["top1"]
    assert (stated["title"], stated["unit"], stated["better"]) == ("top-1", "%", "higher")


def test_headlines_are_the_quoted_metrics_or_else_the_first_that_ranks(subject: Subject) -> None:
    def of(*metrics: Metric) -> Result:
        task = Task(name="t", title="T", metrics=metrics)
        return Measurement(command="x").result(
            task,
            subject,
            {metric.name: 1.0 for metric in metrics},
            protocol="",
            data=DataSet(name="d", split="val", images=8, digest="d"),
            settings={},
        )

    plain, ranked = Metric(name="spread", title="s"), Metric(name="r", title="r", better="lower")
    quoted = Metric(name="q", title="q", better="higher", quoted=True)
    assert of(plain, ranked, quoted).quoted == ["q"]
    assert of(plain, ranked).quoted == ["r"]
    assert (of(plain).quoted, of(plain).headline) == ([], "spread")


def test_what_no_reader_would_take_is_not_written(tmp_path: Path, result: Result) -> None:
    infinite = dataclasses.replace(result.metrics["top1"], value=math.inf)
    for change in ({"metrics": {"top1": infinite}}, {"details": {"k": {10: 1.0, 2: 1.0}}}):
        with pytest.raises(ValueError, match="no record can be made of this"):
            write_result(dataclasses.replace(result, **change), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_record_is_never_written_over(tmp_path: Path, result: Result) -> None:
    path = write_result(result, tmp_path)
    before = path.stat()
    assert write_result(result, tmp_path) == path
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    path.write_text("damaged")
    with pytest.raises(InputError, match="exists with another content"):
        write_result(result, tmp_path)
    assert path.read_text() == "damaged"


_WRITER = """
import dataclasses, sys
from pathlib import Path
from typing import Any
from micl_bench.records.result import read_result, write_result
first, folder, worker = read_result(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
sys.stdin.read()
for number in range(60):
    # Every third record is one that all workers write.
    seed = number if number % 3 == 0 else 1000 * (worker + 1) + number
    write_result(dataclasses.replace(first, seed=seed), folder)
"""


def test_many_writers_lose_and_double_nothing(tmp_path: Path, result: Result) -> None:
    first, store, workers = write_result(result, tmp_path / "first"), tmp_path / "store", range(4)
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(first), str(store), str(worker)],
            stdin=subprocess.PIPE,
        )
        for worker in workers
    ]
    for writer in writers:
        # All of them have imported and wait: they start together.
        assert writer.stdin
        writer.stdin.close()
    assert [writer.wait(timeout=120) for writer in writers] == [0] * 4
    found = read_store(store)
    assert not found.damaged
    expected = set(range(0, 60, 3))
    expected |= {1000 * (w + 1) + number for w in workers for number in range(60) if number % 3}
    assert sorted(record.seed for record in found.records) == sorted(expected)
    assert len(list(store.iterdir())) == len(expected)

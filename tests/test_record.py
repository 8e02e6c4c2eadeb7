"""Records survive the disk unchanged, are never half written, and tell when they were edited."""

import dataclasses
import json
from pathlib import Path

import pytest

from micl_bench.errors import InputError
from micl_bench.files import atomic_folder, atomic_path, digest_json
from micl_bench.provenance import Measurement
from micl_bench.record import (
    SCHEMA,
    CheckpointInfo,
    DataSet,
    Result,
    read_result,
    read_results,
    write_result,
)


@pytest.fixture
def result() -> Result:
    return Measurement(command="micl-bench eval knn").result(
        task="knn",
        protocol="10-NN",
        method="MiCL",
        arch="vit",
        metrics={"top1": 91.25},
        data=DataSet(name="imagenet", split="val", images=8, digest="d"),
        checkpoint=CheckpointInfo(source="a.pt", format="timm", digest="c"),
        settings={"k": 20},
        recipe={"k": 10},
        seed=3,
    )


def test_a_record_comes_back_as_it_was_written(tmp_path: Path, result: Result) -> None:
    path = write_result(result, tmp_path)
    assert read_result(path) == result
    assert path.stem == result.id
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_record_says_where_its_number_comes_from(result: Result) -> None:
    assert result.environment["torch"]
    assert result.code_version.startswith("0.1.0")
    assert len(result.recipe_digest) == 64
    assert result.device_hours == pytest.approx(result.seconds / 3600, abs=1e-6)


def test_an_edited_record_is_refused(tmp_path: Path, result: Result) -> None:
    path = write_result(result, tmp_path)
    content = json.loads(path.read_text())
    content["metrics"]["top1"] = 99.9
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="was changed after it was written"):
        read_results(tmp_path)


@pytest.mark.parametrize("schema", ["micl-bench/result/1", "micl-bench/result/3"])
def test_a_record_of_another_schema_is_refused_by_name(
    tmp_path: Path, result: Result, schema: str
) -> None:
    path = write_result(result, tmp_path)
    content = json.loads(path.read_text())
    del content["settings"], content["fingerprint"], content["intervals"], content["details"]
    path.write_text(json.dumps({**content, "schema": schema, "unknown": 1}))
    with pytest.raises(InputError) as caught:
        read_results(tmp_path)
    message = str(caught.value)
    assert f"{path.name} has schema {schema!r}, this version reads {SCHEMA!r}" in message
    assert "\n" not in message


def test_a_fingerprint_that_is_not_of_the_settings_is_refused(
    tmp_path: Path, result: Result
) -> None:
    assert result.fingerprint == digest_json({"k": 20})
    other = dataclasses.replace(result, settings={"k": 10})
    with pytest.raises(InputError, match="not the digest of its settings"):
        read_result(write_result(other, tmp_path))


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


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    atomic_folder(folder, lambda new: (new / "a").write_text("old") and None)

    def fill(new: Path) -> None:
        (new / "b").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic_folder(folder, fill)
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert (folder / "a").read_text() == "old"

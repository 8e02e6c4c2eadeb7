"""The evidence of one number: what is checked again, what is said to be wrong, and hostile records."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from synthetic_results import recorded, result

from micl_bench.records.published import read_references
from micl_bench.records.result import DataSet, Record, Result, write_result
from micl_bench.records.store import read_results
from micl_bench.report.audit.explain import as_text, explain, explain_published, find
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json

HOSTILE = "\x1b[2J\x1b]0;owned\x07<script>alert(1)</script>"


def found_in(folder: Path, *records: Result) -> tuple[dict[str, Any], str]:
    """The evidence of the first, as data and as text."""
    for one in records:
        write_result(one, folder)
    found = explain(recorded(records, folder)[0], recorded(records, folder), read_references())
    # Numbers that are none would be no JSON.
    json.dumps(found, allow_nan=False)
    assert found["kind"] == "measured"
    return found, as_text(found)


def mae(top1: float, **changes: Any) -> Result:
    values: dict[str, Any] = {
        "task": "finetune",
        "method": "MAE",
        "arch": "vit_base_patch16_224",
        "metrics": {"top1": top1},
        "data": {"name": "imagenet", "split": "val", "images": 50_000},
        "train": DataSet(name="imagenet", split="train", images=1_281_167, digest="7" * 64),
        "settings": {"img_size": 224, "training": {"epochs": 100}},
    }
    return result(**values | changes)


def test_published_numbers_stand_beside_it_with_verdict_and_source(tmp_path: Path) -> None:
    found, text = found_in(tmp_path, mae(83.7))
    (paper,) = [
        one
        for one in found["published"]
        if one["published"]["source"] == "arXiv:2111.06377 Table 3"
        and one["published"]["resolution"] == 224
    ]
    assert paper["verdict"] == "consistent"
    assert paper["records"] == [found["id"]]
    assert paper["published"]["id"] in text
    assert "consistent, if of its pre-training: measured 83.70 [83.3" in text


def test_the_other_seeds_of_the_store_are_runs_of_the_same_number(tmp_path: Path) -> None:
    found, text = found_in(tmp_path, *(mae(83.4 + seed / 10, seed=seed) for seed in range(3)))
    assert {len(one["records"]) for one in found["published"]} == {3}
    assert "mean of 3 runs" in text


def test_what_a_newer_record_replaces(tmp_path: Path) -> None:
    old, new = mae(83.4), mae(83.5, start="2025-06-01T10:00:00+00:00")
    found, text = found_in(tmp_path, old, new)
    assert (found["superseded_by"], found["supersedes"]) == (new.id, [])
    assert new.id in text
    # Its own verdicts are about its own number.
    assert {one["value"] for one in found["published"]} == {83.4}
    found, _ = found_in(tmp_path, new, old)
    assert (found["superseded_by"], found["supersedes"]) == (None, [old.id])


def test_a_recipe_that_is_not_the_digests(tmp_path: Path) -> None:
    found, text = found_in(tmp_path, mae(83.4))
    assert not found["recipe_digest_fits"]
    assert "PROBLEM: not the digest of the recipe" in text
    fitting = mae(83.4, recipe={"k": 3}, recipe_digest=digest_json({"k": 3}))
    found, text = found_in(tmp_path / "fitting", fitting)
    assert found["recipe_digest_fits"]
    assert "PROBLEM" not in text


def test_a_hostile_record_writes_no_control_character_and_reaches_no_other_file(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "secret.npz"
    secret.write_bytes(b"secret")
    one = mae(
        83.4,
        method=HOSTILE,
        protocol=HOSTILE,
        command=f"micl-bench {HOSTILE}",
        settings={HOSTILE: {HOSTILE: HOSTILE}, "long": "x" * 100_000},
        recipe={f"{HOSTILE}{number}": number for number in range(1000)},
        environment={HOSTILE: HOSTILE},
        artifacts={"evidence": "../secret.npz", HOSTILE: "/etc/passwd"},
        evidence="predictions",
        digests={"evidence": "0" * 64},
        checkpoint={"source": HOSTILE, "format": HOSTILE},
    )
    found, text = found_in(tmp_path / "store", one)
    assert all(line.isprintable() for line in text.splitlines())
    assert "... and more: --json has all" in text
    assert len(text) < 40_000
    states = [artifact["state"] for artifact in found["artifacts"]]
    assert all("leads out of the record's folder" in state for state in states)
    assert found["problems"]


def test_not_a_number_is_said_so(tmp_path: Path) -> None:
    one = mae(
        83.4,
        metrics={"top1": float("nan")},
        intervals={"top1": [float("nan")] * 2},
        undefined={"top1": "no image counts for it"},
    )
    found, text = found_in(tmp_path, one)
    assert found["metrics"][0]["value"] is None
    assert "–: no image counts for it" in text


def test_every_record_of_a_demo_is_explained(demo_results: Path) -> None:
    records = read_results(demo_results)
    for run in records:
        found = explain(run, records, read_references())
        assert found["id"] in as_text(found)
        assert {artifact["state"].partition(";")[0] for artifact in found["artifacts"]} <= {"there"}


def test_a_record_by_the_beginning_of_its_id_or_of_its_digest(tmp_path: Path) -> None:
    runs = recorded([mae(83.4), mae(83.5, method="MoCo v3")])
    first = runs[0].id

    def found(name: str, among: list[Record] = runs) -> Record:
        return find(name, among, "record")

    assert found(first) == runs[0]
    assert found("finetune-imagenet-mae") == runs[0]
    assert found(first[-10:-3]) == runs[0]
    # The same record, found in two places, is one.
    assert found(first, [*runs, *recorded(runs[:1], tmp_path)]).id == first
    with pytest.raises(InputError, match="2 records have an id that begins with 'finetune'"):
        found("finetune")
    with pytest.raises(InputError, match="no record has the id 'nothing'"):
        found("nothing")


def test_a_published_row_with_its_source() -> None:
    references = read_references()
    (own,) = [one for one in references if (one.method, one.metric) == ("OCL", "wall_hours")]
    assert find(own.id[:-2], references, "published number") == own
    found = explain_published(own)
    assert found["kind"] == "published"
    assert found["measures"] == {"task": "pretrain", "data": "imagenet", "metric": "wall_hours"}
    assert found["stands_for"] == [132.5, 133.5]
    text = as_text(found)
    for words in ("133 hours", "from 132.5 to 133.5", "not stated in the text read", "4 x NVIDIA"):
        assert words in text
    with pytest.raises(InputError, match="581 published numbers"):
        find("published-", references, "published number")
    hostile = dataclasses.replace(own, source=HOSTILE, protocol=HOSTILE)
    assert all(line.isprintable() for line in as_text(explain_published(hostile)).splitlines())

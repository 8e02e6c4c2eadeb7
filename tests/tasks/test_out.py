"""The folder of an evaluation: one at a time, never mixed, and whole after a kill at its end."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from support import REPOSITORY, Command, Run

from micl_bench.errors import InputError
from micl_bench.files import digest_file
from micl_bench.record import Result, read_result
from micl_bench.tasks._out import own_folder, records_before, write_records

RECIPE = REPOSITORY / "downstream" / "embedded_knn.py"


def words(data: Path, *more: object) -> list[object]:
    return ["eval", "knn", "--data", data, "--recipe", RECIPE, "--set", "ks=[5]", *more]


@pytest.fixture(scope="module")
def results(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Two records of one command, as robustness writes several."""
    found = []
    for seed in (0, 1):
        out = tmp_path_factory.mktemp("out")
        checkpoint = ("--checkpoint", "random:vit_demo_patch4_32", "--set", f"seed={seed}")
        done = Command(*words(few_digits, *checkpoint, "--out", out)).wait()
        assert done.returncode == 0, done.stderr
        (path,) = out.glob("knn-*.json")
        found.append(read_result(path))
    return [found[0], dataclasses.replace(found[1], command=found[0].command)]


def test_two_evaluations_at_once_into_one_folder_keep_their_evidence(
    few_digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    commands = [
        Command(*words(few_digits, "--checkpoint", name, "--out", out, "--set", f"seed={seed}"))
        for seed, name in enumerate(["random:vit_demo_patch4_32"] * 2)
    ]
    done = [command.wait() for command in commands]
    records = [read_result(path) for path in sorted(out.glob("knn-*.json"))]
    # The second was refused, or came when the first had not begun to look: then both are whole.
    assert len(records) == [one.returncode for one in done].count(0) >= 1
    for one in done:
        assert one.returncode == 0 or len(one.stderr.splitlines()) <= 2, one.stderr
    for record in records:
        assert digest_file(out / record.artifacts["predictions"]) == record.digests["predictions"]


def test_the_second_of_two_is_refused_in_one_line_while_the_first_is_at_it(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    with own_folder(tmp_path / "out", "knn"):
        arguments = words(few_digits, "--checkpoint", "random:vit_demo_patch4_32", "--out", "out")
        done = micl_bench(*arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith("is evaluating knn into out; wait for it, or stop it")
    assert "another process (process " in line
    assert not (tmp_path / "out").exists(), "what was made for the lock alone is gone"


@pytest.mark.parametrize("written", [0, 1, 2])
def test_records_that_a_kill_kept_from_being_written_are_written_by_the_next_call(
    results: Sequence[Result], tmp_path: Path, written: int
) -> None:
    out, command = tmp_path / "out", results[0].command
    paths = write_records(tmp_path / "whole", "knn", results)
    pending = {path.name: path.read_text() for path in paths}
    assert [path.name for path in paths] == [f"{one.id}.json" for one in results]
    assert len(list((tmp_path / "whole").iterdir())) == 2
    out.mkdir()
    for path in paths[:written]:
        shutil.copy(path, out)
    (out / ".knn.pending").write_text(json.dumps(pending))
    found = records_before(out, "knn", command)
    assert sorted(path.name for path, _ in found) == sorted(pending)
    assert all((out / name).read_text() == text for name, text in pending.items())
    assert len(list(out.iterdir())) == 2


@pytest.mark.parametrize(
    "content",
    ["", "[1]", '{"knn-x.json"', '{"../knn-x.json": "text"}', '{"other.json": "text"}'],
    ids=["empty", "a list", "torn", "elsewhere", "another name"],
)
def test_a_damaged_note_of_records_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / ".knn.pending").write_text(content)
    with pytest.raises(InputError, match=r"\.knn\.pending"):
        records_before(tmp_path, "knn", "micl-bench eval knn")
    assert len(list(tmp_path.iterdir())) == 1


def test_only_the_same_command_counts_as_done(results: Sequence[Result], tmp_path: Path) -> None:
    assert records_before(tmp_path / "none", "knn", "") == []
    write_records(tmp_path, "knn", results[:1])
    assert records_before(tmp_path, "logistic", "") == []
    assert len(records_before(tmp_path, "knn", results[0].command)) == 1
    with pytest.raises(InputError, match="another command already"):
        records_before(tmp_path, "knn", f"{results[0].command} --set k=3")

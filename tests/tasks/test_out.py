"""The folder of an evaluation: one at a time, never mixed, and whole after a kill at its end."""

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from support import REPOSITORY, Command, Run, good, torchrun

from micl_bench.checkpoints import load_checkpoint, save_checkpoint
from micl_bench.records.result import Result, read_result
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file
from micl_bench.tasks import Request
from micl_bench.tasks._out import own_folder, records_before, write_records

RECIPE = REPOSITORY / "downstream" / "embedded_knn.py"
RANDOM = "random:vit_demo_patch4_32"
INPUTS = {"recipe": "1" * 64, "data": "2" * 64}


def request(out: Path, command: str) -> Request:
    return Request(checkpoint=RANDOM, data=Path("none"), out=out, command=command)


def words(data: Path, *more: object) -> list[object]:
    return ["eval", "knn", "--data", data, "--recipe", RECIPE, "--set", "ks=[5]", *more]


@pytest.fixture(scope="module")
def results(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Two records of one command, as robustness writes several."""
    found = []
    for seed in (0, 1):
        out = tmp_path_factory.mktemp("out")
        checkpoint = ("--checkpoint", "random:vit_demo_patch4_32", "--set", f"seed={seed}")
        good(Command(*words(few_digits, *checkpoint, "--out", out)).wait())
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
        assert digest_file(out / record.artifacts["evidence"]) == record.digests["evidence"]


def test_the_second_of_two_is_refused_in_one_line_while_the_first_is_at_it(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    with own_folder(tmp_path / "out", "knn"):
        arguments = words(few_digits, "--checkpoint", "random:vit_demo_patch4_32", "--out", "out")
        done = micl_bench(*arguments)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith("is evaluating knn into out; wait for it, or stop it")
    assert not (tmp_path / "out").exists(), "what was made for the lock alone is gone"


@pytest.mark.parametrize("written", [0, 1, 2])
def test_records_that_a_kill_kept_from_being_written_are_written_by_the_next_call(
    results: Sequence[Result], tmp_path: Path, written: int
) -> None:
    out, command = tmp_path / "out", results[0].command
    write_records(tmp_path / "whole", "knn", results, INPUTS)
    paths = list((tmp_path / "whole").iterdir())
    pending = {path.name: path.read_text() for path in paths}
    assert [path.name for path in paths] == [f"{read_result(path).id}.json" for path in paths]
    assert len(paths) == 2
    out.mkdir()
    for path in paths[:written]:
        shutil.copy(path, out)
    (out / ".knn.pending").write_text(json.dumps(pending))
    found = records_before(request(out, command), "knn", INPUTS)
    assert sorted(f"{one.id}.json" for one in found) == sorted(pending)
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
        records_before(request(tmp_path, "micl-bench eval knn"), "knn", INPUTS)
    assert len(list(tmp_path.iterdir())) == 1


def test_only_the_same_command_on_the_same_inputs_counts_as_done(
    results: Sequence[Result], tmp_path: Path
) -> None:
    command = results[0].command
    same = request(tmp_path, command)
    assert records_before(request(tmp_path / "none", ""), "knn", INPUTS) == []
    write_records(tmp_path, "knn", results[:1], INPUTS)
    assert records_before(same, "logistic", INPUTS) == []
    assert len(records_before(same, "knn", INPUTS)) == 1
    with pytest.raises(InputError, match="another command already"):
        records_before(request(tmp_path, f"{command} --set k=3"), "knn", INPUTS)
    for name in INPUTS:
        with pytest.raises(InputError, match=f"another {name} already"):
            records_before(same, "knn", INPUTS | {name: "3" * 64})


@pytest.fixture
def place(few_digits: Path, tmp_path: Path, micl_bench: Run) -> Path:
    """A working folder with data, recipe and checkpoint of its own, and a record of them in `out`."""
    here = tmp_path / "here"
    shutil.copytree(few_digits, here / "data")
    shutil.copy(RECIPE, here / "recipe.py")
    draw(here, seed=0)
    good(micl_bench(*OWN, cwd=here))
    return here


OWN = ("eval", "knn", "--data", "data", "--recipe", "recipe.py", "--set", "ks=[5]",
       "--checkpoint", "net.pt", "--out", "out")  # fmt: skip


def draw(place: Path, *, seed: int) -> None:
    """A checkpoint `net.pt`, of the seed's weights."""
    checkpoint = load_checkpoint(RANDOM, seed=seed)
    model, arch = checkpoint.backbone(), checkpoint.arch
    save_checkpoint(place / "net.pt", model, arch, method="mine", provenance={})


def test_the_same_command_again_prints_the_same_and_measures_nothing(
    micl_bench: Run, place: Path
) -> None:
    before = {path.name: path.read_bytes() for path in (place / "out").iterdir()}
    # Of a process that was killed when its record had just got its name.
    (place / "out" / ".knn.json.0a1b2c3d.micl-bench.tmp").touch()
    first, second = (micl_bench(*OWN, cwd=place) for _ in range(2))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert first.stdout == second.stdout != ""
    assert "nothing to do" in first.stderr
    assert {path.name: path.read_bytes() for path in (place / "out").iterdir()} == before


@pytest.mark.long
def test_other_files_of_the_same_names_are_no_result_to_print(
    micl_bench: Run, place: Path, tmp_path: Path
) -> None:
    (record,) = (place / "out").glob("knn-*.json")

    def copied(name: str) -> Path:
        return shutil.copytree(place, tmp_path / name)

    checkpoint = copied("checkpoint")
    draw(checkpoint, seed=1)
    recipe = copied("recipe")
    text = (recipe / "recipe.py").read_text()
    (recipe / "recipe.py").write_text(text.replace(" k=10,", " k=9,"))
    image, grown, more, gone = map(copied, ("image", "grown", "more", "gone"))
    next((image / "data" / "val").glob("*/*.*")).unlink()
    with next((grown / "data" / "train").glob("*/*.*")).open("ab") as file:
        file.write(b"0")
    old = next((more / "data" / "train").glob("*/*.*"))
    shutil.copy(old, old.with_stem("new"))
    (gone / "net.pt").unlink()
    for folder, other in (
        (checkpoint, "checkpoint"), (gone, "checkpoint"), (recipe, "recipe"), (image, "data"),
        (grown, "data"), (more, "data"),
    ):  # fmt: skip
        done = micl_bench(*OWN, cwd=folder)
        assert (done.returncode, done.stdout) == (2, ""), folder
        assert done.stderr.splitlines() == [
            f"error: --out out holds a knn result of another {other} already; give another folder"
        ]
        assert sorted(path.name for path in (folder / "out").glob("knn*")) == [record.name]
    # Equal inputs in another place are the same.
    assert micl_bench(*OWN, cwd=copied("equal")).returncode == 0


@pytest.mark.long
def test_of_several_processes_one_says_that_nothing_is_to_do(
    few_digits: Path, tmp_path: Path
) -> None:
    command = ["-m", "micl_bench", *words(few_digits, "--checkpoint", RANDOM)]
    command += ["--out", tmp_path / "out"]
    first, again = (torchrun(2, *command) for _ in range(2))
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    assert again.stdout == first.stdout
    assert again.stdout.count("top1 ") == again.stderr.count("nothing to do") == 1
    assert len(list((tmp_path / "out").glob("knn-*.json"))) == 1

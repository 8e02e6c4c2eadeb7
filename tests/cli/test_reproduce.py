"""`micl-bench reproduce` and `explain` on real records: the verdict, and what is named."""

import dataclasses
import json
import shlex
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import REPOSITORY, Command, Run, good, losses, refused

from micl_bench.records.plans import Plan, write_plan
from micl_bench.records.result import Result, read_result, write_result
from micl_bench.tasks import Request
from micl_bench.tasks.knn.run import run

RANDOM = "random:vit_demo_patch4_32"
RECIPE = REPOSITORY / "downstream" / "embedded_knn.py"


@pytest.fixture
def place(few_digits: Path, tmp_path: Path) -> Path:
    """A folder with a data set of its own, and one record in `results/knn`."""
    shutil.copytree(few_digits, tmp_path / "digits")
    command = f"micl-bench eval knn --checkpoint {RANDOM} --recipe {RECIPE} --data digits --out"
    request = Request(
        checkpoint=RANDOM,
        data=tmp_path / "digits",
        out=tmp_path / "results" / "knn",
        recipe=RECIPE,
        overrides=("k=5", "ks=[5]"),
        method="",
        command=f"{command} results/knn --set k=5 --set 'ks=[5]'",
    )
    (result,) = run(request)
    write_result(result, request.out)
    return tmp_path


def the_record(place: Path) -> tuple[Path, Result]:
    (path,) = (place / "results" / "knn").glob("knn-*.json")
    return path, read_result(path)


def another(place: Path, **changes: Any) -> Path:
    """A record like the one that is there, in the same folder, and no other."""
    path, result = the_record(place)
    path.unlink()
    return write_result(dataclasses.replace(result, **changes), path.parent)


@pytest.mark.long
def test_a_knn_is_identical_when_run_again(place: Path, micl_bench: Run) -> None:
    path, result = the_record(place)
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    mine = place / "again" / "cache" / "thesis.tex"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    done = micl_bench("reproduce", result.id[-10:-4], "--results", "results", "--out", "again")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("verdict: identical")
    assert "evidence of each image: predictions are the same, byte for byte" in lines
    (kept,) = [line for line in lines if line.startswith("as it was: ")]
    for word in ("images, training images, checkpoint, settings, seed, recipe", "packages"):
        assert word in kept
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before
    (new,) = (place / "again").glob("knn-*.json")
    # Not read from the features that the record was made of.
    features = [one.details["features"]["val"] for one in (result, read_result(new))]
    assert features[0]["key"] == features[1]["key"]
    assert features[0]["seconds"] != features[1]["seconds"]
    assert mine.read_text() == "mine"
    assert [file.name for file in (place / "again").iterdir() if file.name.startswith(".")] == []
    # As after a kill between the repetition and the verdict: what was measured is compared.
    once_more = micl_bench("reproduce", path, "--out", "again")
    assert once_more.returncode == 0, once_more.stderr
    assert "nothing to do" in once_more.stderr
    assert once_more.stdout.splitlines()[-1].startswith("verdict: identical")
    own = micl_bench("reproduce", path, "--out", path.parent)
    assert own.returncode == 2


@pytest.mark.long
def test_paths_start_where_the_command_was_started(place: Path, micl_bench: Run) -> None:
    path, _ = the_record(place)
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    lost = micl_bench("reproduce", path, "--out", "again", cwd=elsewhere)
    assert lost.returncode == 2
    assert "no image folder at digits/train" in lost.stderr
    assert "the command failed with exit code 2" in lost.stderr
    found = micl_bench("reproduce", path, "--out", "again", "--from", place, cwd=elsewhere)
    assert found.returncode == 0, found.stderr
    assert list((elsewhere / "again").glob("knn-*.json"))


@pytest.mark.long
def test_other_images_are_named_and_not_comparable(place: Path, micl_bench: Run) -> None:
    path, _ = the_record(place)
    image = next((place / "digits" / "val" / "digit_3").iterdir())
    image.rename(image.with_name("renamed.png"))
    done = micl_bench("reproduce", path, "--out", "again")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("verdict: not comparable")
    assert "not as it was, and moves the number: images: then 40 images of digits" in done.stdout


@pytest.mark.long
def test_within_the_interval_or_outside_it(place: Path, micl_bench: Run) -> None:
    """Records that say something else than was measured, of which only one could be chance."""
    _, result = the_record(place)
    digests = {"evidence": "0" * 64}
    top1 = result.metrics["top1"]
    assert top1.high is not None
    near = dataclasses.replace(top1, value=min(top1.high, top1.value + 2.5))
    path = another(place, metrics={**result.metrics, "top1": near}, digests=digests)
    done = good(micl_bench("reproduce", path, "--out", "near"))
    assert done.stdout.splitlines()[-1].startswith("verdict: consistent")
    far = dataclasses.replace(top1, value=99.0, low=97.0, high=99.9)
    path = another(place, metrics={**result.metrics, "top1": far})
    done = micl_bench("reproduce", path, "--out", "far")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("verdict: different")
    assert "top-1 [%]: then 99, now " in done.stdout


@pytest.mark.long
def test_what_is_not_as_it_was_is_said_before_and_after(place: Path, micl_bench: Run) -> None:
    _, result = the_record(place)
    path = another(
        place, code_version="0.0.9", environment={**result.environment, "torch": "1.0.0"}
    )
    done = good(micl_bench("reproduce", path, "--out", "again"))
    for text in (done.stderr, done.stdout):
        assert "not as it was: code: then 0.0.9, now 0.1.0" in text
        assert "not as it was: torch: then 1.0.0, now " in text
    assert done.stdout.splitlines()[-1].startswith("verdict: identical")


@pytest.mark.long
def test_another_recipe_is_not_comparable(place: Path, micl_bench: Run) -> None:
    command = the_record(place)[1].command
    path = another(place, command=command.replace("--set k=5", "--set k=7"))
    done = micl_bench("reproduce", path, "--out", "again")
    assert done.returncode == 1
    assert "moves the number: setting k: then 5, now 7" in done.stdout


@pytest.mark.long
def test_a_hostile_command_runs_nothing(place: Path, micl_bench: Run) -> None:
    (place / "evil.py").write_text("import pathlib; pathlib.Path('ran').touch(); recipe = None\n")
    # The working folder is no place to import from.
    (place / "torch.py").write_text("import pathlib; pathlib.Path('ran').touch()\n")
    start = f"micl-bench eval knn --checkpoint {RANDOM} --data digits --out o"
    for number, command in enumerate(
        (
            "touch ran",
            f"{start}; touch ran",
            f"{start} --recipe evil.py",
            "micl-bench eval knn --checkpoint 'x; touch ran' --data '$(touch ran)' --out o",
            "micl-bench eval knn --checkpoint '`touch ran`' --data digits --out o",
        )
    ):
        path = another(place, command=command)
        done = refused(micl_bench("reproduce", path, "--out", f"again{number}"))
        assert "error: " in done.stderr
        assert not (place / "ran").exists()
    own = place / "own.py"
    own.write_text(RECIPE.read_text())
    path = another(place, command=f"{start} --recipe evil.py --set k=5 --set 'ks=[5]'")
    good(micl_bench("reproduce", path, "--out", "own", "--recipe", own))
    assert not (place / "ran").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none-such", "--results", "results", "--out", "o"), "no record has the id 'none-such'"),
        (("knn", "--results", "nowhere", "--out", "o"), "no results folder at nowhere"),
        (("knn", "--out", "o"), "no results folder at work/results"),
        (("knn", "--results", "results", "--out", "o", "--from", "x"), "--from x is no folder"),
        (("knn", "--results", "results", "--out", "o", "--recipe", "x"), "no recipe file at x"),
    ],
)
def test_bad_input_is_one_line(
    place: Path, micl_bench: Run, words: tuple[str, ...], message: str
) -> None:
    done = refused(micl_bench("reproduce", *words))
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.long
def test_a_stopped_reproduction_goes_on_and_is_identical(few_digits: Path, tmp_path: Path) -> None:
    settings = (
        *("pixels.img_size=16", "training.epochs=8", "training.batch_size=16", "mix.group=4"),
        *("training.optim.warmup_epochs=1", "save_every_steps=3", "check_every_epochs=0"),
    )
    words = ["eval", "finetune", "--checkpoint", RANDOM, "--data", few_digits, "--out", "first"]
    words += [word for value in settings for word in ("--set", value)]
    assert Command(*words, cwd=tmp_path).wait().returncode == 0
    (path,) = (tmp_path / "first").glob("finetune-*.json")
    out = tmp_path / "again"
    process = Command("reproduce", path, "--out", out, cwd=tmp_path)
    while len(losses(out)) < 5 and process.is_running():
        time.sleep(0.01)
    process.send(signal.SIGTERM)
    done = good(process.wait())
    assert "stopped by SIGTERM" in done.stderr
    assert not list(out.glob("finetune-*.json"))
    done = good(Command("reproduce", path, "--out", out, cwd=tmp_path).wait())
    assert done.stdout.splitlines()[-1].startswith("verdict: identical")


def test_explain_checks_the_evidence_again(place: Path, micl_bench: Run) -> None:
    path, result = the_record(place)
    done = good(micl_bench("explain", "knn-", "--results", "results", "--json", "found.json"))
    found = json.loads((place / "found.json").read_text())
    assert found["id"] == result.id
    (evidence,) = path.parent.glob("predictions-knn-digits-*.npz")
    predictions = dict(np.load(evidence))
    for metric in found["metrics"]:
        accuracy = 100 * predictions[f"correct.{metric['name']}"].mean()
        assert metric["from_evidence"] == pytest.approx(accuracy)
        assert metric["value"] == pytest.approx(accuracy)
    (artifact,) = found["artifacts"]
    assert artifact["state"] == "there, SHA-256 as recorded"
    assert (found["recipe_digest_fits"], found["superseded_by"]) == (True, None)
    for words in (result.id, result.command, result.fingerprint, result.data.digest, "initialise"):
        assert words in done.stdout
    # An image that was got right is now said to be wrong.
    arrays = dict(predictions)
    arrays["correct.top1"] = 1 - arrays["correct.top1"]
    np.savez_compressed(evidence, **arrays)
    done = good(micl_bench("explain", path))
    words = f"is not the file that record {path.name} was written with: its SHA-256 differs"
    assert f"{evidence.name} {words}" in " ".join(done.stdout.split())
    assert "PROBLEM: " in done.stdout
    evidence.unlink()
    done = micl_bench("explain", path)
    assert f"{evidence.name}: missing" in done.stdout
    assert "Evidence: none is kept of each image." in done.stdout


@pytest.mark.long
def test_explain_says_what_supersedes_a_record(place: Path, micl_bench: Run) -> None:
    path, result = the_record(place)
    newer = dataclasses.replace(result, start="2099-01-01T00:00:00+00:00")
    later = write_result(newer, place / "results" / "later")
    done = micl_bench("explain", path, "--results", "results")
    assert f"takes its place in reports: {later.stem}" in done.stdout
    done = refused(micl_bench("explain", "knn", "--results", "results"))
    assert "2 records have an id that begins with 'knn'" in done.stderr


def test_explain_of_a_published_number(micl_bench: Run) -> None:
    done = good(micl_bench("explain", "published-ae7b4", "--json", "found.json"))
    assert "83.6 %" in done.stdout
    assert "arXiv:2111.06377 Table 3" in done.stdout
    assert micl_bench("explain", "published-").returncode == 2


@pytest.mark.long
def test_it_gets_as_many_threads_as_then(place: Path, micl_bench: Run) -> None:
    _, result = the_record(place)
    other = str(1 + int(result.environment["threads"]))
    path = another(place, environment={**result.environment, "threads": other})
    done = good(micl_bench("reproduce", path, "--out", "again"))
    (new,) = (place / "again").glob("knn-*.json")
    assert read_result(new).environment["threads"] == other
    assert "threads: " not in done.stdout + done.stderr


@pytest.mark.long
def test_explain_ends_with_a_command_that_works_wherever_the_store_is(
    place: Path, micl_bench: Run
) -> None:
    path, result = the_record(place)
    newer = dataclasses.replace(result, start="2999-01-01T00:00:00+00:00")
    later = write_result(newer, place / "results" / "newer")
    by_id = micl_bench("explain", result.id, "--results", "results")
    words = shlex.split(by_id.stdout.splitlines()[-1].partition("verdict: micl-bench ")[2])
    assert micl_bench(*[word.replace("NEW_FOLDER", "again") for word in words]).returncode == 0
    # A suite's store is found from a file in it; what lies beside it counts.
    line = f"takes its place in reports: {later.stem}"
    assert line in by_id.stdout
    assert line not in micl_bench("explain", path).stdout
    write_plan(place / "results", Plan(suite="x", runs=()))
    assert line in micl_bench("explain", path).stdout

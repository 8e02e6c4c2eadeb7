"""Suites as real processes: killed and called again, two at once, with a run that fails, by signals."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import REPOSITORY, Run

from micl_bench.cli.app import invoke, run
from micl_bench.records.plans import is_stale, read_plans
from micl_bench.records.store import read_results
from micl_bench.runtime.errors import Stopped
from micl_bench.runtime.locks import turn
from micl_bench.suites import runs as suite_runs
from micl_bench.suites.execute import command_line
from micl_bench.suites.expand import expand
from micl_bench.suites.file import read_file
from micl_bench.suites.run import recipe_digest
from micl_bench.suites.runs import Runner
from micl_bench.suites.state import States, read_note
from micl_bench.suites.tables import shown_plan

# A pre-training of a few steps, all that hangs on it, and an entry that must fail.
SUITE = """
data: {data}
checkpoints:
  MiCL:
    recipe: {work}/pretrain.py
    data: {data}
    overrides: [epochs={epochs}, batch_size=40, knn_every_epochs=0, save_every_steps=1,
                optim.warmup_epochs=0]
  random weights: random:vit_demo_patch4_32
entries:
  - {{name: knn, task: knn, recipe: {work}/knn.py, overrides: ['ks=[5]'], matrix: {{k: [5, 10]}}}}
  - {{name: missing, task: finetune, recipe: {work}/finetune.py, data: {missing}, methods: [MiCL]}}
  - {{name: hurt, task: robustness, recipe: {work}/robustness.py, of: [missing]}}
"""
SAVED = "pretrain/pretrain/*/states/*.pt"
NAMES = {
    "pretrain/MiCL",
    *(f"knn/{method}/k={k}" for method in ("MiCL", "random weights") for k in (5, 10)),
    "missing/MiCL",
    "hurt/MiCL",
}


@pytest.fixture
def suite(few_digits: Path, tmp_path: Path) -> Path:
    """A suite file with recipes of its own beside it."""
    recipe_digest.cache_clear()
    (tmp_path / "pretrain.py").write_text((REPOSITORY / "pretrain" / "embedded.py").read_text())
    for task in ("knn", "finetune", "robustness"):
        source = REPOSITORY / "downstream" / f"embedded_{task}.py"
        (tmp_path / f"{task}.py").write_text(source.read_text())
    return write(tmp_path, few_digits)


@pytest.fixture
def sound(suite: Path) -> Path:
    """The same suite without the entries that fail."""
    text = suite.read_text()
    suite.write_text(text[: text.index("  - {name: missing")])
    return suite


def write(work: Path, data: Path, epochs: int = 3, name: str = "suite") -> Path:
    path = work / f"{name}.yaml"
    path.write_text(SUITE.format(work=work, data=data, missing=work / "none", epochs=epochs))
    return path


def wait_for(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 240
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def started(*arguments: object) -> subprocess.Popen[str]:
    """A process with its children in a group of their own, that one kill ends all."""
    return subprocess.Popen(
        [sys.executable, "-m", "micl_bench", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def states(suite: Path, store: Path) -> dict[str, str]:
    runs = expand(read_file(suite))
    return {run.name: States(store, runs).of(run).word for run in runs}


def written(store: Path) -> dict[Path, int]:
    """Every record, and when it was written."""
    return {one.path: one.path.stat().st_mtime_ns for one in read_results(store)}


@pytest.mark.long
def test_failures_stop_only_what_needs_them_and_a_second_time_does_nothing_more(
    micl_bench: Run, suite: Path, few_digits: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    command = ("suite", "run", suite, "--out", store)
    first = micl_bench(*command)
    assert first.returncode == 1, first.stderr
    found = states(suite, store)
    assert set(found) == NAMES
    assert found.pop("missing/MiCL") == "failed"
    assert found.pop("hurt/MiCL") == "new"
    assert set(found.values()) == {"done"}
    lines = first.stdout.splitlines()
    assert lines[0].split()[:5] == ["entry", "method", "values", "seed", "data"]
    assert sum("best of 2" in line for line in lines) >= 2
    assert "on the evaluated images themselves" in first.stdout
    (failed,) = [line for line in lines if line.startswith("failed: ")]
    assert "missing/MiCL: no image folder" in failed
    assert "exit code 2; all it said: " in failed
    log = Path(failed.rpartition("all it said: ")[2].rstrip(")"))
    assert "no image folder" in log.read_text()
    assert any(
        line.startswith("left out, because what they need is not there: 1") for line in lines
    )
    assert lines[-1].endswith(shlex.join(["micl-bench", *map(str, command)]))

    before = written(store)
    assert len(before) == 5
    for result in read_results(store):
        path = result.path
        assert read_note(path.parent / "run.json")["records"] == [result.id]
        assert f"--out {path.parent}" in result.command
    (tmp_path / "none").symlink_to(few_digits)  # mended
    mended = micl_bench(*command)
    # The same robustness still lacks its sets: one failure less.
    assert "failed: hurt/MiCL" in mended.stdout
    assert "failed: missing" not in mended.stdout
    after = written(store)
    assert {path: after[path] for path in before} == before
    assert len(after) == 6

    plan = read_plans(store)[0][0]
    assert {run.name: run.state for run in plan.runs} == {
        name: "failed" if name == "hurt/MiCL" else "done" for name in NAMES
    }
    assert not any(is_stale(store, path, [plan]) for path in after)


@pytest.mark.long
def test_nothing_to_do_is_said_without_torch(
    micl_bench: Run, sound: Path, few_digits: Path, tmp_path: Path
) -> None:
    command = ["suite", "run", str(sound), "--out", str(tmp_path / "store")]
    assert micl_bench(*command).returncode == 0
    before = written(tmp_path / "store")
    code = "import sys; from micl_bench.cli.app import invoke; invoke(sys.argv[1:]); "
    code += "print('torch' in sys.modules)"
    again = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, check=True
    )
    assert again.stdout.splitlines()[-1] == "False"
    assert "micl-bench eval" not in again.stderr
    assert written(tmp_path / "store") == before


@pytest.mark.long
def test_a_changed_recipe_makes_only_what_depends_on_it_and_the_old_is_stale(
    sound: Path, few_digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    command = ["suite", "run", str(sound), "--out", str(store)]
    invoke(command)
    before = written(store)
    recipe = tmp_path / "knn.py"
    recipe.write_text("# A comment.\n" + recipe.read_text())
    recipe_digest.cache_clear()
    capsys.readouterr()
    invoke([*command, "--dry-run"])
    shown = capsys.readouterr().out
    assert "5 of 5 done; nothing to do" in shown

    recipe.write_text(recipe.read_text().replace("k=10", "k=9, temperature=0.1"))
    recipe_digest.cache_clear()
    invoke([*command, "--dry-run"])
    shown = capsys.readouterr().out
    assert shown.count("its recipe changed; the old result stays in knn/") == 4
    assert "1 of 5 done; 4 to do" in shown
    assert len([line for line in shown.splitlines() if line.startswith("micl-bench eval knn")]) == 4
    assert written(store) == before

    invoke(command)
    after = written(store)
    assert {path: after[path] for path in before} == before
    assert len(after) == len(before) + 4
    plans, _ = read_plans(store)
    stale = {path for path in after if is_stale(store, path, plans)}
    assert stale == {path for path in before if "knn" in path.parts}
    assert {result.settings["temperature"] for result in read_results(store)
            if result.task == "knn" and result.path not in stale} == {0.1}  # fmt: skip


@pytest.mark.long
def test_killed_at_any_moment_it_goes_on_and_doubles_nothing(
    suite: Path, few_digits: Path, tmp_path: Path
) -> None:
    write(tmp_path, few_digits, epochs=40)
    store = tmp_path / "store"
    command = ("suite", "run", suite, "--out", store)
    kept: dict[Path, int] = {}

    def killed_once(happened: Callable[[], object]) -> None:
        process = started(*command)
        wait_for(happened, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for path, when in kept.items():
            assert path.stat().st_mtime_ns == when
        kept.update({path: path.stat().st_mtime_ns for path in store.rglob("knn-*.json") if
                     done(path)})  # fmt: skip

    def done(record: Path) -> bool:
        return read_note(record.parent / "run.json").get("state") == "done"

    killed_once(lambda: len(list(store.glob(SAVED))) >= 2)
    assert not list(store.rglob("pretrain-*.json"))
    killed_once(lambda: list(store.rglob("pretrain-*.json")))
    # Between a record and its mark, and after it.
    killed_once(lambda: list(store.rglob("knn-*.json")))
    killed_once(lambda: sum(map(done, store.rglob("knn-*.json"))) > len(kept))
    last = started(*command)
    _, said = last.communicate(timeout=300)
    assert last.returncode == 1, said  # one entry fails on purpose
    logs = [path.read_text() for path in store.glob("pretrain/pretrain/*/log.txt")]
    assert "going on from step" in logs[0]
    assert sum(word == "done" for word in states(suite, store).values()) == 5
    assert len(list(store.rglob("*-*.json"))) == 5
    assert kept
    for path, when in kept.items():
        assert path.stat().st_mtime_ns == when


@pytest.mark.long
def test_two_suites_at_one_store_share_the_work_and_lose_nothing(
    suite: Path, few_digits: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    other = write(tmp_path, few_digits, name="other")
    processes = [started("suite", "run", path, "--out", store) for path in (suite, other)]
    said = [process.communicate(timeout=300) for process in processes]
    for process, (out, err) in zip(processes, said, strict=True):
        assert process.returncode == 1, err
        assert out.count("failed: ") == 1
    for path in (suite, other):
        assert sum(word == "done" for word in states(path, store).values()) == 5
    assert len(list(store.rglob("*-*.json"))) == len(read_results(store)) == 5
    # Each run's command was started once, by whichever came first.
    commands = [line for _, err in said for line in err.splitlines() if "  micl-bench " in line]
    made = [line for line in commands if "none" not in line]
    assert len(made) == len(set(made)) == 5
    assert {plan.suite for plan in read_plans(store)[0]} == {"suite", "other"}


@pytest.mark.long
def test_processes_end_with_the_suite_that_is_killed_and_go_on_with_the_next(
    suite: Path, few_digits: Path, tmp_path: Path
) -> None:
    """The suite's process alone is killed: torchrun's save, leave, and are nobody's meanwhile."""
    write(tmp_path, few_digits, epochs=400)
    store = tmp_path / "store"
    command = ("suite", "run", suite, "--set", "processes=2", "--out", store)
    process = started(*command)
    wait_for(lambda: list(store.glob(SAVED)), process)
    (torchrun,) = children_of(process.pid)
    process.kill()
    process.communicate()
    end = time.monotonic() + 60
    while Path(f"/proc/{torchrun}").exists():
        assert time.monotonic() < end, "the run outlives its suite"
        time.sleep(0.05)
    (log,) = store.glob("pretrain/pretrain/*/log.txt")
    assert "after saving step" in log.read_text()
    again = started(*command)
    wait_for(lambda: "going on from step" in log.read_text(), again)
    again.terminate()
    _, said = again.communicate(timeout=60)
    assert again.returncode == 0, said


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGTERM, 0, "stopped by SIGTERM; the same command goes on"),
        (signal.SIGUSR2, 0, "stopped by SIGUSR2; the same command goes on"),
        (signal.SIGINT, 130, "interrupted; called again, pretrain"),
    ],
)
def test_a_signal_ends_the_run_at_its_step_and_the_suite(
    suite: Path, few_digits: Path, tmp_path: Path, number: signal.Signals, code: int, line: str
) -> None:
    write(tmp_path, few_digits, epochs=400)
    store = tmp_path / "store"
    process = started("suite", "run", suite, "--out", store)
    wait_for(lambda: list(store.glob(SAVED)), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err.splitlines()[-1].startswith(line)
    (log,) = store.glob("pretrain/pretrain/*/log.txt")
    assert (f"stopped by {number.name} after saving step" in log.read_text()) == (code == 0)
    assert "Traceback" not in out + err + log.read_text()
    assert states(suite, store)["pretrain/MiCL"] == "cut"


def children_of(process: int) -> list[int]:
    found = Path(f"/proc/{process}/task/{process}/children").read_text()
    return [int(child) for child in found.split()]


def test_processes_that_end_well_without_a_result_were_stopped(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite_runs, "execute", lambda *_, **__: (0, ""))
    with pytest.raises(Stopped, match="pretrain/MiCL was stopped; the same command goes on"):
        Runner(run, "stopped", expand(read_file(suite)), tmp_path / "store").run()


def test_a_claim_that_a_killed_suite_left_is_swept_unless_it_is_held(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite_runs, "execute", lambda *_, **__: (2, "error: no"))
    store = tmp_path / "store"
    left, held = (store / ".claims" / f"{name}.lock" for name in ("left", "held"))
    left.parent.mkdir(parents=True)
    left.touch()
    two_days_ago = time.time() - 2 * 86_400
    with turn(held, "making a run"):
        os.utime(held, (two_days_ago, two_days_ago))
        # It may be of another host, whose locks are not seen.
        Runner(run, "swept", expand(read_file(suite)), store).run()
        assert sorted(held.parent.iterdir()) == [held, left]
        os.utime(left, (two_days_ago, two_days_ago))
        Runner(run, "swept", expand(read_file(suite)), store).run()
        assert list(held.parent.iterdir()) == [held]
    left.touch()
    os.utime(left, (two_days_ago, two_days_ago))
    Runner(run, "swept", expand(read_file(suite)), store).run()
    assert not left.parent.exists()


@pytest.mark.long
def test_what_is_gone_is_made_again(sound: Path, few_digits: Path, tmp_path: Path) -> None:
    store, runs = tmp_path / "store", expand(read_file(sound))
    Runner(run, "gone", runs, store).run()
    before = written(store)
    record, other, *_ = (path for path in before if "knn" in path.parts)
    record.write_text(record.read_text().replace("top1", "top9"))
    weights = next(store.rglob("backbone.pt"))
    weights.unlink()
    (evidence,) = other.parent.glob("predictions-*")
    evidence.unlink()
    kept = [
        outcome.run.name for outcome in Runner(run, "gone", runs, store).run() if outcome.problem
    ]
    assert kept == []
    assert weights.is_file()
    assert evidence.is_file()
    assert len(written(store)) == len(before)


@pytest.mark.parametrize("seconds", ["1" + "0" * 400, "NaN", "Infinity", "-1", '"x"', "[1]"])
def test_a_time_that_is_none_does_not_stop_a_plan(tmp_path: Path, seconds: str) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(
        "{prepare: {s: data embedded}, task: knn, data: d, checkpoints: {m: c}, entries: [{name: n}]}"
    )
    runs = expand(read_file(path))
    note = tmp_path / runs[0].folder / "run.json"
    note.parent.mkdir(parents=True)
    note.write_text(
        f'{{"key": "{runs[0].key}", "state": "done", "records": [], "seconds": {seconds}}}'
    )
    plan = shown_plan("data", runs, tmp_path)
    is_note = seconds in ("-1", '"x"', "[1]")
    assert ("1 of 2 done; 1 to do:" in plan) == is_note
    # What no JSON holds is a damaged note, and its run goes on.
    assert ("damaged" in plan) != is_note


def test_several_processes_are_torchruns() -> None:
    words = command_line(["eval", "knn"], 2)
    assert words[1:3] == ["-m", "torch.distributed.run"]
    assert words[-5:] == ["--nproc-per-node=2", "-m", "micl_bench", "eval", "knn"]


@pytest.mark.long
def test_it_runs_under_torchrun_too(few_digits: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.yaml"
    recipe = REPOSITORY / "downstream" / "embedded_knn.py"
    path.write_text(
        f"{{task: knn, data: {few_digits}, recipe: {recipe}, processes: 2, overrides: ['ks=[5]', k=5], "
        "checkpoints: {m: random:vit_demo_patch4_32}, entries: [{name: n}]}"
    )
    (outcome,) = Runner(run, "two", expand(read_file(path)), tmp_path / "store").run()
    assert outcome.problem == ""
    assert len(outcome.results) == 1

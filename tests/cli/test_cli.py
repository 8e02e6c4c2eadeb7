"""The command line as a stranger meets it: quick help, one clear line for a mistake, exit codes."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import REPOSITORY, Run, good, refused

from micl_bench.cli import app as cli

COMMANDS = (
    "demo", "pretrain", "eval", "report", "list", "data", "data embedded", "data pack",
    "data verify", "bench", "bench loader", "bench step", "bench objectives",
    "bench knn", "bench dense", "show", "show views", "show robustness", "show layers",
    "inspect", "convert", "features", "compare", "doctor", "slurm", "suite", "suite run",
)  # fmt: skip
RANDOM = "random:vit_demo_patch4_32"


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_says_what_each_option_does(micl_bench: Run, command: str) -> None:
    done = good(micl_bench(*command.split(), "--help"))
    options = done.stdout.partition("Options:")[2].split("\n\n")[0].strip().splitlines()
    described = [line for line in options if line.lstrip().startswith("-")]
    assert described
    for line, following in zip(options, [*options[1:], ""], strict=True):
        if line.lstrip().startswith("-"):
            has_text = len(line.strip().split("  ")) > 1
            assert has_text or not following.lstrip().startswith("-"), f"{line} is not explained"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['micl-bench', 'eval', '--help']\n"
        "from micl_bench.cli.app import main\n"
        "try: main()\nfinally: print(sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    loaded = {name.strip("'[] ").partition(".")[0] for name in done.stderr.split(",")}
    assert "typer" in loaded
    assert not loaded & {
        "torch",
        "timm",
        "numpy",
        "sklearn",
        "mmengine",
        "matplotlib",
        "pandas",
        "rich",
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["eval", "knn"], "Missing option"),
        (["eval", "knnn", "--checkpoint", RANDOM, "--data", "x", "--out", "y"], "known: ade20k"),
        (["eval", "knn", "--checkpoint", "no.pt", "--data", "x", "--out", "y"], "no checkpoint"),
        (["eval", "knn", "--checkpoint", RANDOM, "--data", "x", "--out", "y"], "no image folder"),
        (
            ["eval", "knn", "--checkpoint", RANDOM, "--data", "x", "--out", "y", "--set", "kk=1"],
            "'kk' is not one of: pixels, k, temperature",
        ),
        (["eval", "ade20k", "--checkpoint", RANDOM, "--data", "x", "--out", "y"], "--recipe"),
        (["pretrain", "no.py", "--data", "x", "--out", "y"], "no recipe file at no.py"),
        (["report", "--results", "x", "--out", "y"], "no results folder"),
        (["list", "nothing"], "known: tasks"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_clear_line(
    micl_bench: Run, tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = refused(micl_bench(*arguments))
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("debug", [False, True])
def test_debug_shows_where_a_defect_is_and_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], debug: bool
) -> None:
    def defect(kind: str) -> str:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(cli, "listing_of", defect)
    flags = ["--debug"] if debug else []
    monkeypatch.setattr(sys, "argv", ["micl-bench", *flags, "list", "tasks"])
    with pytest.raises(ZeroDivisionError if debug else SystemExit) as caught:
        cli.main()
    if not debug:
        assert caught.value.code == 1
        assert capsys.readouterr().err.startswith("internal error: ZeroDivisionError: a defect")


def test_interrupted_it_says_how_to_go_on(few_digits: Path, tmp_path: Path) -> None:
    recipe = REPOSITORY / "pretrain" / "embedded.py"
    command = [
        sys.executable,
        "-m",
        "micl_bench",
        "pretrain",
        str(recipe),
        "--set",
        "batch_size=16",
        # Far longer than it takes to send a signal, on a busy machine too.
        "--set",
        "epochs=1000",
    ]
    command += ["--data", str(few_digits), "--out", str(tmp_path / "run")]
    # A process started in the background by a shell inherits that interrupts are ignored.
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not (tmp_path / "run" / "metrics.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "suite run, and eval finetune, linear, ade20k and coco go on" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize("loaded", ["micl_bench.cli", "typer", "micl_bench.cli.bench", "numpy"])
@pytest.mark.parametrize("seconds", [0, 0.004])
def test_interrupted_while_it_loads_it_says_so_in_one_line(loaded: str, seconds: float) -> None:
    words = [
        *("eval", "knn", "--checkpoint", "random:vit_demo_patch4_32"),
        "--data",
        "x",
        "--out",
        "x",
    ]
    process = subprocess.Popen(
        # Python writes a line for each module when it has been imported.
        [sys.executable, "-X", "importtime", "-m", "micl_bench", *words],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stderr
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("import time:") and line.split("|")[-1].strip() == loaded:
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
            break
    lines += process.stderr
    process.stderr.close()
    assert process.wait(timeout=60) == 130
    (said,) = [line for line in lines if not line.startswith("import time:")]
    assert said.startswith("interrupted")


@pytest.mark.parametrize(
    "kind", ["tasks", "robustness", "objectives", "formats", "checkpoints", "architectures"]
)
def test_lists_have_a_line_on_each_entry(micl_bench: Run, kind: str) -> None:
    done = good(micl_bench("list", kind))
    assert all(len(line.split()) > 3 for line in done.stdout.splitlines())

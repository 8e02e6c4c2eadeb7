"""What surrounds a command: closed streams, full disks, no home, odd names, little memory.

Each ends in one line and the right exit code, and 0 says that the work is whole.
"""

import os
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest
from kills import command

LIST = ("list", "tasks")
MODEL = "random:vit_demo_patch4_32"


def _long(value: object) -> Any:
    """A variant that takes as long as the others and seldom tells more."""
    return pytest.param(value, marks=pytest.mark.long)


def shell(
    script: str, *words: object, cwd: Path, **environment: str | None
) -> tuple[int, str, str]:
    """Run `micl-bench` (as "$@") in bash; a variable that is None is taken away."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", script, "bash", *command(words)],
        capture_output=True,
        check=False,
        cwd=cwd,
        timeout=120,
        env={name: value for name, value in variables.items() if value is not None},
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize(
    "script", ['"$@" >&-', '"$@" <&- >&-', '"$@" | true', '"$@" >&- 2>&-'], ids=str
)
def test_nobody_needs_to_listen(tmp_path: Path, script: str) -> None:
    assert shell(script, *LIST, cwd=tmp_path) == (0, "", "")


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    code, out, err = shell('"$@" | head -1', *LIST, cwd=tmp_path)
    assert (code, len(out.splitlines()), err) == (0, 1, "")


@pytest.mark.parametrize("script", ['"$@" 2>&-', '"$@" 2>/dev/full'])
def test_a_refusal_that_nobody_hears_is_one(tmp_path: Path, script: str) -> None:
    assert shell(script, "list", "nothing", cwd=tmp_path) == (2, "", "")


@pytest.mark.parametrize("words", [LIST, ("list", "checkpoints"), ("--version",)])
def test_output_that_is_lost_is_said(tmp_path: Path, words: tuple[str, ...]) -> None:
    code, _, err = shell('"$@" > /dev/full', *words, cwd=tmp_path)
    assert code == 2
    assert err == "error: standard output cannot be written: No space left on device\n"


def test_a_file_never_gets_what_is_printed(tmp_path: Path) -> None:
    # Standard output is closed, so that the next opened file could have its number.
    code, _, err = shell('"$@" >&-', "inspect", MODEL, "--json", "it.json", cwd=tmp_path)
    assert code == 0, err
    assert (tmp_path / "it.json").read_text().startswith("{")


@pytest.mark.long
@pytest.mark.parametrize("language", ["C", "C.UTF-8", "POSIX"])
@pytest.mark.parametrize("encoding", [None, "ascii"])
def test_any_terminal_can_show_what_is_printed(
    tmp_path: Path, language: str, encoding: str | None
) -> None:
    words = ("list", "checkpoints")
    code, out, err = shell('"$@"', *words, cwd=tmp_path, LC_ALL=language, PYTHONIOENCODING=encoding)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) > 20


@pytest.mark.parametrize(
    "words",
    [
        "inspect $'caf\\xe9.pt'",
        "report --results . --out $'caf\\xe9'",
        "eval knn --checkpoint x --data . --out $'a/\\xff/b'",
        "data embedded --out $'caf\\xe9'",
    ],
)
@pytest.mark.parametrize("language", ["C", "C.UTF-8"])
def test_an_argument_that_is_no_text_is_refused_at_once(
    tmp_path: Path, words: str, language: str
) -> None:
    code, out, err = shell(f'"$@" {words}', cwd=tmp_path, LC_ALL=language)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert "\\x" in line
    assert line.endswith("is not valid UTF-8; rename it, or give the name of a link to it")
    assert list(tmp_path.iterdir()) == []


def test_a_working_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    code, _, err = shell('mkdir gone && cd gone && rmdir "$PWD" && "$@"', *LIST, cwd=tmp_path)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "the working folder is no longer there" in err


@pytest.mark.long
@pytest.mark.parametrize("kind", ["a file", _long("in /proc"), _long("no such user")])
def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(
    few_digits: Path, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "file").touch()
    cache = {"a file": tmp_path / "file", "in /proc": "/proc/cache", "no such user": "~nobody1/x"}
    words = ("--checkpoint", MODEL, "--data", few_digits, "--out", "out")
    code, _, err = shell(
        '"$@"', "eval", "knn", *words, cwd=tmp_path, MICL_BENCH_CACHE=str(cache[kind])
    )
    assert code == 2, err
    assert "MICL_BENCH_CACHE" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.long
@pytest.mark.parametrize("home", [None, _long(""), _long("/proc/none"), _long("/dev/null")])
def test_no_home_is_needed_where_the_cache_has_a_place(
    few_digits: Path, tmp_path: Path, home: str | None
) -> None:
    words = ("--checkpoint", MODEL, "--data", few_digits, "--out", "out", "--set", "k=5")
    code, out, err = shell(
        '"$@"', "eval", "knn", *words, cwd=tmp_path, HOME=home, MICL_BENCH_CACHE="cache"
    )
    assert code == 0, err
    assert out.startswith("knn  digits")
    assert "Traceback" not in err


@pytest.mark.long
def test_a_folder_for_passing_files_that_cannot_be_written_is_not_needed(tmp_path: Path) -> None:
    code, _, err = shell(
        '"$@"', "data", "embedded", "--out", "data", cwd=tmp_path, TMPDIR="/proc/none"
    )
    assert code == 0, err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("mib", [200, 1000, _long(2900), _long(3100)])
def test_little_memory_is_said_in_one_line(tmp_path: Path, mib: int) -> None:
    limit = mib << 20
    if mib == 200:
        # What needs no torch needs little.
        assert shell(f'ulimit -v {limit >> 10}; "$@"', *LIST, cwd=tmp_path)[0] == 0
        return
    code, _, err = shell(f'ulimit -v {limit >> 10}; "$@"', "inspect", MODEL, cwd=tmp_path)
    assert code == 2, err
    assert len(err.splitlines()) == 1
    assert f"(ulimit -v allows {mib / 1024:.1f} GiB)" in err


@pytest.mark.parametrize("largest", [20_000, _long(1000), _long(200_000)])
@pytest.mark.parametrize("to", ["timm", "safetensors"])
def test_a_disk_that_is_full_at_the_last_write_leaves_no_half_file(
    tmp_path: Path, largest: int, to: str
) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

    done = subprocess.run(
        command(["convert", MODEL, "--to", to, "--out", "new.safetensors"]),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        preexec_fn=limit,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert "new.safetensors cannot be written" in line
    assert list(tmp_path.iterdir()) == []

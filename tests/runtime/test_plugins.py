"""Tasks, formats, shifted sets and sources of others: found by name, refused in a line, or left out."""

import os
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support import Run, good

from micl_bench.checkpoints._read_file import find_format
from micl_bench.cli.listing import listing_of
from micl_bench.data.source import open_images
from micl_bench.robustness import RobustnessSet, every_set, find_set
from micl_bench.runtime import plugins
from micl_bench.runtime.errors import InputError
from micl_bench.tasks import declared, declared_tasks, running

TASK = "from micl_bench.tasks import Task\nTASK = Task(name='bad', title='X', metrics=())\n"
OTHER_NAME = "from micl_bench.tasks import Task\nTASK = Task(name='x', title='X', metrics=())\n"
RUN = "def run(request):\n    return []\n"
KINDS = ("tasks", "objectives", "checkpoints", "robustness", "data.sources")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that `MICL_BENCH_PLUGINS` names."""
    found = tmp_path / "mine"
    found.mkdir()
    monkeypatch.setenv(plugins.VARIABLE, str(found))
    yield found
    for name in [name for name, module in sys.modules.items() if _is_below(module, found)]:
        del sys.modules[name]


def _is_below(module: ModuleType, folder: Path) -> bool:
    return Path(getattr(module, "__file__", None) or "/").is_relative_to(folder)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_outside_is_listed_with_its_place_and_not_imported(folder: Path, kind: str) -> None:
    last = kind.rpartition(".")[2]
    path = write(folder / last / "mine.py", '"""Of mine.\n\nMore."""\nraise RuntimeError("run")\n')
    write(folder / last / "_helper.py", '"""No plug-in."""\n')
    write(folder / last / "larger" / "__init__.py", '"""In a folder."""\n')
    found = plugins.names(kind)
    assert found["mine"] == f"Of mine. (from {path})"
    assert found["larger"].startswith("In a folder. (from ")
    assert "_helper" not in found
    assert not [
        text for name, text in found.items() if "(from" in text and name not in ("mine", "larger")
    ]


def test_kinds_of_the_package_alone_are_not_looked_for_outside(folder: Path) -> None:
    write(folder / "specs" / "mine.py", '"""A table."""\n')
    assert "mine" not in plugins.names("report.tables.specs")


def test_a_name_that_stands_twice_is_refused_with_both_places(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "theirs"
    first = write(folder / "robustness" / "mine.py", '"""One."""\n')
    second = write(other / "robustness" / "mine.py", '"""Two."""\n')
    monkeypatch.setenv(plugins.VARIABLE, os.pathsep.join(map(str, (folder, other, folder))))
    with pytest.raises(InputError) as caught:
        listing_of("robustness")
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)
    ours = write(folder / "checkpoints" / "mae.py", '"""Ours."""\n')
    with pytest.raises(InputError, match=r"micl_bench/checkpoints/mae\.py and") as caught:
        plugins.find("checkpoints", "beit")
    assert str(ours) in str(caught.value)
    # The others are as they were.
    assert listing_of("objectives")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("X = 1\n", "defines no SET"),
        ("SET = 'Bad'\n", "has SET = 'Bad'; needed: a RobustnessSet"),
        ("class SET:\n    title = 'Bad'\n", "needed: a RobustnessSet"),
    ],
)
def test_one_that_cannot_be_used_is_one_line_and_breaks_no_other(
    folder: Path, text: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(folder / "robustness" / "bad.py", text)
    assert not any(line.startswith("bad ") for line in listing_of("robustness").splitlines())
    with pytest.raises(InputError, match=reason) as caught:
        plugins.find("robustness", "bad", SET=RobustnessSet)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    titles = [one.title for one in every_set()]
    assert find_set("imagenet_a").title in titles
    assert "Bad" not in titles
    assert capsys.readouterr().err.count(str(path)) == 1


@pytest.mark.parametrize(
    "text", ["import nowhere\n", f"TASK = 1\n{RUN}", OTHER_NAME + RUN, f"{TASK}run = 3\n"]
)
def test_a_task_that_cannot_be_used_breaks_no_other(folder: Path, text: str) -> None:
    write(folder / "tasks" / "bad.py", f'"""Bad."""\n{text}')
    assert "knn" in declared_tasks()
    assert "bad" not in declared_tasks()
    listed = listing_of("tasks")
    assert "Bad. (from " not in listed
    assert "top-1" in listed
    with pytest.raises(InputError, match=r"bad"):
        declared("bad")


@pytest.mark.parametrize(
    ("place", "text", "use", "fault"),
    [
        ("tasks", "TASK = 'bad'\n", declared, "has TASK = 'bad'; needed: a Task"),
        ("tasks", TASK, running, "defines no run"),
        ("tasks", f"{TASK}run = 3\n", running, "has run = 3; needed: a function"),
        (
            "checkpoints",
            "recognise = 1\nconvert = 2\n",
            find_format,
            "has recognise = 1; needed: a function",
        ),
        (
            "sources",
            "open_images = 'x'\n",
            lambda name: open_images(Path(f"{name}:x")),
            "needed: a function",
        ),
    ],
)
def test_a_declaration_of_another_class_is_refused_with_its_file(
    folder: Path, place: str, text: str, use: Callable[[str], object], fault: str
) -> None:
    path = write(folder / place / "bad.py", text)
    with pytest.raises(InputError, match=fault) as caught:
        use("bad")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("listed", "place", "text"),
    [
        ("tasks", "tasks", f"TASK = 3\n{RUN}"),
        ("objectives", "objectives", "OBJECTIVE = int\n"),
        ("formats", "checkpoints", "recognise = 1\nconvert = 2\n"),
        ("robustness", "robustness", "SET = 'x'\n"),
        ("sources", "sources", "open_images = 'x'\n"),
    ],
)
def test_lists_leave_out_what_they_warn_of(
    folder: Path, listed: str, place: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listing_of(listed).splitlines()
    path = write(folder / place / "bad.py", f'"""Bad."""\n{text}')
    assert [line.split()[0] for line in listing_of(listed).splitlines()] == [
        line.split()[0] for line in before
    ]
    (warning,) = capsys.readouterr().err.splitlines()
    assert str(path) in warning
    assert warning.endswith("it is left out")


def test_help_of_eval_leaves_out_a_task_that_cannot_be_used(micl_bench: Run, folder: Path) -> None:
    bad = write(folder / "tasks" / "bad.py", f'"""Bad."""\n{TASK}run = 3\n')
    good_one = TASK.replace("bad", "a_task_of_a_long_name")
    write(folder / "tasks" / "a_task_of_a_long_name.py", f'"""Good."""\n{good_one}{RUN}')
    done = good(micl_bench("eval", "--help"))
    listed = done.stdout.partition("Tasks:")[2].splitlines()
    assert "Bad." not in done.stdout
    assert f"{bad} has run = 3" in done.stderr
    # The descriptions stand below each other, whatever the longest name is.
    places = {line.find(words) for line in listed for words in ("Good.", "k-NN:") if words in line}
    assert len(places) == 1


def test_help_is_given_whatever_plugins_there_are(micl_bench: Run, folder: Path) -> None:
    first = write(folder / "tasks" / "knn.py", '"""Mine."""\n')
    for words in (["--help"], ["eval", "--help"], ["list", "robustness"]):
        good(micl_bench(*words))
    refused = micl_bench("list", "tasks")
    assert refused.returncode == 2
    assert str(first) in refused.stderr


def test_a_variable_that_names_no_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"MICL_BENCH_PLUGINS names .*nowhere, which is no folder"):
        plugins.names("tasks")


def test_an_installed_distribution_has_plugins_by_entry_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    write(site / "theirs" / "__init__.py", "raise RuntimeError('imported')\n")
    write(site / "theirs" / "sets.py", '"""A set of theirs."""\nSET = 1\n')
    write(site / "alone.py", '"""Alone."""\nSET = 2\n')
    info = site / "theirs-1.0.dist-info"
    write(info / "METADATA", "Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    write(
        info / "entry_points.txt",
        "[micl_bench.robustness]\ntheirs = theirs.sets\nalone = alone\ngone = nowhere.at_all\n",
    )
    monkeypatch.syspath_prepend(str(site))
    plugins._entry_points.cache_clear()
    try:
        found = plugins.names("robustness")
        assert found["theirs"] == "A set of theirs. (from theirs.sets of theirs)"
        assert found["gone"] == " (from nowhere.at_all of theirs)"
        assert plugins.find("robustness", "alone").SET == 2
        for name in ("gone", "theirs"):
            with pytest.raises(InputError, match="cannot be imported"):
                plugins.find("robustness", name)
    finally:
        plugins._entry_points.cache_clear()
        sys.modules.pop("alone", None)

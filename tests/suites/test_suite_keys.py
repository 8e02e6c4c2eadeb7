"""Keys: what makes a run another run, and what does not."""

from pathlib import Path

import pytest

from micl_bench.suites.expand import expand
from micl_bench.suites.file import read_file
from micl_bench.suites.run import Run, content_digest, recipe_digest

RECIPE = '''"""A recipe.

    micl-bench eval knn
"""
# Chosen by trial.
value = 1e-3


def double(x):
    """Twice."""
    return 2 * x  # doubled
'''


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Digests are remembered while a suite runs; here files change."""
    recipe_digest.cache_clear()
    content_digest.cache_clear()


def digest(path: Path, text: str) -> str:
    path.write_text(text)
    recipe_digest.cache_clear()
    return recipe_digest(path)


def test_only_what_a_recipe_says_counts(tmp_path: Path) -> None:
    path = tmp_path / "recipe.py"
    first = digest(path, RECIPE)
    same = RECIPE.replace("Chosen by trial.", "Why not?").replace("A recipe.", "Another text.")
    assert digest(path, same.replace("Twice.", "Doubled.").replace("1e-3", "0.001")) == first
    assert digest(path, f"\n\n{RECIPE}".replace("value = 1e-3", "value = (\n    1e-3\n)")) == first
    assert digest(path, RECIPE.replace("1e-3", "2e-3")) != first
    assert digest(path, RECIPE.replace("2 * x", "3 * x")) != first
    assert digest(tmp_path / "moved.py", RECIPE) == first


@pytest.mark.parametrize(
    "first_line",
    ['_base_ = "base.py"', '_base_ = ["./base.py"]', '_base_ = ("mmseg::x.py", "base.py")',
     "from .base import *", "from .base import value"],
)  # fmt: skip
def test_files_that_it_builds_on_count_too(tmp_path: Path, first_line: str) -> None:
    base, deep, path = (tmp_path / name for name in ("base.py", "deep.py", "top.py"))
    deep.write_text("rate = 1")
    base.write_text('_base_ = "deep.py"\n')
    first = digest(path, first_line)
    deep.write_text("rate = 1  # one")
    assert digest(path, first_line) == first
    deep.write_text("rate = 2")
    assert digest(path, first_line) != first


@pytest.mark.parametrize("text", ["no Python: (", "\0", '_base_ = "loop.py"', "(" * 5000])
def test_any_file_has_a_digest(tmp_path: Path, text: str) -> None:
    first = digest(tmp_path / "loop.py", text)
    assert digest(tmp_path / "loop.py", text) == first
    assert digest(tmp_path / "loop.py", f"{text} ") != first or "_base_" in text


SUITE = """
prepare: {digits: data embedded}
data: made:digits/embedded
checkpoints:
  MiCL: {recipe: pretrain.py, data: made:digits/embedded}
  given: given.pt
entries:
  - {name: finetune, task: finetune, recipe: finetune.py}
  - {name: knn, task: knn, recipe: knn.py}
  - {name: robustness, task: robustness, recipe: robustness.py, data: made:digits, of: [finetune]}
"""


def planned(folder: Path, *assignments: str) -> dict[str, Run]:
    recipe_digest.cache_clear()
    content_digest.cache_clear()
    return {run.name: run for run in expand(read_file(folder / "suite.yaml", assignments))}


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite.yaml").write_text(SUITE)
    (tmp_path / "given.pt").write_bytes(b"weights")
    for name in ("pretrain", "finetune", "knn", "robustness"):
        (tmp_path / f"{name}.py").write_text(f"value = {name!r}")
    return tmp_path


def changed(before: dict[str, Run], after: dict[str, Run]) -> set[str]:
    return {name for name in before if before[name].key != after[name].key}


ALL_OF_MICL = {"pretrain/MiCL", "finetune/MiCL", "knn/MiCL", "robustness/MiCL"}


@pytest.mark.parametrize(
    ("file", "affected"),
    [
        ("pretrain.py", ALL_OF_MICL),
        (
            "finetune.py",
            {f"{t}/{m}" for t in ("finetune", "robustness") for m in ("MiCL", "given")},
        ),
        ("knn.py", {"knn/MiCL", "knn/given"}),
        ("given.pt", {"finetune/given", "knn/given", "robustness/given"}),
    ],
)
def test_a_change_reaches_what_depends_on_it_and_nothing_else(
    suite: Path, file: str, affected: set[str]
) -> None:
    before = planned(suite)
    (suite / file).write_text("value = 'changed'")
    after = planned(suite)
    assert changed(before, after) == affected
    for name in affected:
        assert before[name].folder != after[name].folder


def test_places_do_not_count(suite: Path) -> None:
    before = planned(suite)
    (suite / "moved").mkdir()
    (suite / "given.pt").rename(suite / "moved" / "given.pt")
    text = SUITE.replace("given.pt", "moved/given.pt").replace("digits", "data-set")
    (suite / "suite.yaml").write_text(text)
    after = planned(suite)
    assert {run.key for run in before.values()} == {run.key for run in after.values()}
    assert {run.folder for run in before.values()} == {run.folder for run in after.values()}


def test_names_and_values_count(suite: Path) -> None:
    before = planned(suite)
    (suite / "suite.yaml").write_text(SUITE.replace("  given:", "  other:"))
    assert not {run.key for run in planned(suite).values() if run.method == "other"} & {
        run.key for run in before.values()
    }
    assert changed(before, planned_with_same_names(suite)) == set()
    assert len(changed(before, planned_with_same_names(suite, "overrides=[a=1]"))) == 6


def planned_with_same_names(folder: Path, *assignments: str) -> dict[str, Run]:
    (folder / "suite.yaml").write_text(SUITE)
    return planned(folder, *assignments)

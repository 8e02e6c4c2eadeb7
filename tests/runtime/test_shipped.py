"""Recipes, configs and suites are found by name from any folder; a file that exists comes first."""

from pathlib import Path

import pytest
from support import REPOSITORY

from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.runtime.config import load_recipe
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.shipped import recipe_file, recipes, suite_file, suites
from micl_bench.suites.expand import expand
from micl_bench.suites.file import read_file
from micl_bench.suites.run import Recipe


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_file_of_both_folders_has_a_name_of_its_own() -> None:
    files = [*(REPOSITORY / "pretrain").glob("*.py"), *(REPOSITORY / "downstream").glob("*.py")]
    assert sorted(recipes().values()) == sorted(files)
    assert sorted(suites().values()) == sorted((REPOSITORY / "downstream/suites").iterdir())


def test_a_name_is_the_shipped_file() -> None:
    assert recipe_file("imagenet_knn") == REPOSITORY / "downstream" / "imagenet_knn.py"
    assert suite_file("embedded") == REPOSITORY / "downstream" / "suites" / "embedded.yaml"
    by_path = load_recipe(REPOSITORY / "pretrain" / "embedded.py", PretrainRecipe)
    assert load_recipe("embedded", PretrainRecipe) == by_path


def test_a_file_comes_before_a_name_and_a_folder_does_not(tmp_path: Path) -> None:
    (tmp_path / "embedded").mkdir()
    assert recipe_file("embedded").parent.name == "pretrain"
    (tmp_path / "imagenet_knn").write_text("recipe = 1")
    assert recipe_file("imagenet_knn") == Path("imagenet_knn")


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("imagenet_nn", "imagenet_knn"),
        ("embeded", "embedded"),
        ("pretrain/embedded.py", "embedded"),
    ],
)
def test_a_name_that_fits_nothing_is_one_line_with_near_ones(given: str, near: str) -> None:
    with pytest.raises(
        InputError, match=rf"no recipe file at {given}.*near it: .*\b{near}\b"
    ) as it:
        recipe_file(given)
    assert "\n" not in str(it.value)
    with pytest.raises(InputError, match=r"shipped under the name 'zzz' \(micl-bench list suites"):
        suite_file("zzz")


def test_a_suite_by_name_plans_the_same_runs_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = expand(read_file("embedded"))
    monkeypatch.chdir(REPOSITORY)
    here = expand(read_file("downstream/suites/embedded.yaml"))
    store = Path("store")
    assert [run.command(store) for run in away] == [run.command(store) for run in here]
    assert "--recipe embedded_knn" in " ".join(run.command(store) for run in away)


def test_where_a_recipe_lies_moves_no_key_of_a_run(tmp_path: Path) -> None:
    copy = tmp_path / "mine" / "imagenet_knn.py"
    copy.parent.mkdir()
    copy.write_bytes(recipe_file("imagenet_knn").read_bytes())
    named, given = Recipe(recipe_file("imagenet_knn"), "imagenet_knn"), Recipe(copy)
    assert named.identity() == given.identity()
    assert (named.shown(tmp_path), given.shown(tmp_path)) == (
        "imagenet_knn",
        "mine/imagenet_knn.py",
    )

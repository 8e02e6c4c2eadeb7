"""The suites in `downstream/suites/`: each plans, each recipe loads, each override's key is known."""

import csv
import itertools
import re
from pathlib import Path

import pytest
import yaml
from support import REPOSITORY, Run, good

from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.runtime.config import load_recipe, override
from micl_bench.suites import run as suite_run
from micl_bench.suites.expand import expand
from micl_bench.suites.file import read_file
from micl_bench.tasks import running

SUITES = sorted((REPOSITORY / "downstream" / "suites").glob("*.yaml"))
DENSE = ("ade20k", "coco")


@pytest.fixture(autouse=True)
def _here(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)


def planned(path: Path, *assignments: str) -> list[suite_run.Run]:
    return expand(read_file(path, assignments))


def sets_of(run: suite_run.Run) -> list[str]:
    words = run.arguments(Path("store"))
    return [word for flag, word in itertools.pairwise(words) if flag == "--set"]


def recipe_of(run: suite_run.Run) -> Path:
    (path,) = [word.path for word in run.words if isinstance(word, suite_run.Recipe)]
    return path


def test_these_are_shipped() -> None:
    assert {path.stem for path in SUITES} == {
        "ablations-embedded",
        "ade20k_learning_rates",
        "compare-checkpoints",
        "embedded",
        "paper-tables",
    }


@pytest.mark.long
@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
@pytest.mark.parametrize("seeds", ["", "seeds=[0,1]"])
def test_every_recipe_takes_every_override(path: Path, seeds: str) -> None:
    runs = [run for run in planned(path, *filter(None, [seeds])) if run.task != "data"]
    assert runs
    for run in runs:
        assert (run.seed is not None) == bool(seeds) or path.stem == "ablations-embedded"
        if run.task in DENSE:
            pytest.importorskip("mmengine")
            from micl_bench.openmmlab.configs import read

            read(recipe_of(run), sets_of(run))
            continue
        kind = PretrainRecipe
        if run.task != "pretrain":
            module = running(run.task)
            kind = module.RECIPE
        override(load_recipe(recipe_of(run), kind), sets_of(run))


@pytest.mark.long
@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_it_opens_with_its_command_which_plans_it(
    micl_bench: Run, path: Path, checkout: Path
) -> None:
    text = path.read_text().replace("\\\n#", " ")
    command = re.search(rf"#     (micl-bench suite run {path.stem} .*)", text)
    assert command
    _, *words = command[1].replace("--dry-run", "").split()
    done = good(micl_bench(*words, "--dry-run", cwd=checkout))
    shown = [line for line in done.stdout.splitlines() if line.startswith("micl-bench ")]
    sets = [word for flag, word in itertools.pairwise(words) if flag == "--set"]
    assert len(shown) == len(planned(path, *sets)) > 0
    listed = micl_bench("list", "suites")
    assert f"\n{path.stem} " in f"\n{listed.stdout}"


def test_public_checkpoints_are_in_the_list_of_them() -> None:
    with (REPOSITORY / "results" / "checkpoints.csv").open() as file:
        methods = {row["name"]: row["method"] for row in csv.DictReader(file)}
    path = REPOSITORY / "downstream" / "suites" / "compare-checkpoints.yaml"
    named = yaml.safe_load(path.read_text())["checkpoints"]
    public = {k: v.removeprefix("public:") for k, v in named.items() if v.startswith("public:")}
    assert {methods[name] for name in public.values()} == set(public)
    assert set(public) == {"MAE", "DINO", "MoCo v3", "iBOT", "DINOv2", "I-JEPA"}


def test_the_papers_suite_has_every_task_size_set_and_axis() -> None:
    runs = planned(REPOSITORY / "downstream" / "suites" / "paper-tables.yaml")
    for task in ("finetune", "linear", "knn", "logistic", "robustness", "ade20k", "coco"):
        starts = {run.start for run in runs if run.task == task}
        assert {f"{size} ({values})" for size in "SBL" for values in ("code", "doc")} <= starts
    axes = {run.start for run in runs if run.start.startswith("ablation (")}
    changed = {name.partition("(")[2].partition("=")[0] for name in axes}
    assert changed == {
        *("mask_ratio", "num_views", "kappa", "temperature", "negatives", "batch_size", "epochs")
    }
    assert any(name.endswith("(kappa=0.0)") for name in axes)


def test_the_embedded_ablations_have_two_seeds_and_every_axis_but_negatives() -> None:
    runs = planned(REPOSITORY / "downstream" / "suites" / "ablations-embedded.yaml")
    knn = [run for run in runs if run.task == "knn"]
    assert {run.seed for run in knn} == {0, 1}
    changed = {run.values[0][0] for run in knn if run.values}
    assert changed == {*("mask_ratio", "num_views", "kappa", "temperature", "batch_size", "epochs")}


def test_ade20ks_grid_is_ibots() -> None:
    path = REPOSITORY / "downstream" / "suites" / "ade20k_learning_rates.yaml"
    rates = [float(value) for run in planned(path) for _, value in run.values]
    assert rates == [3e-5, 8e-5, 1e-4, 3e-4, 8e-4]
    (key,) = yaml.safe_load(path.read_text())["matrix"]
    assert key == "optim_wrapper.optimizer.lr"

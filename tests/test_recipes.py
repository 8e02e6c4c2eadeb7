"""Every recipe in `pretrain/` and `downstream/` loads, and runs a little on small data."""

import json
from pathlib import Path

import pytest
from support import REPOSITORY, Run

from micl_bench.config import load_recipe
from micl_bench.engine.recipe import PretrainRecipe
from micl_bench.tasks.finetune import FinetuneRecipe

PRETRAIN = sorted((REPOSITORY / "pretrain").rglob("*.py"))
DOWNSTREAM = sorted((REPOSITORY / "downstream").rglob("*.py"))
# The robustness recipe needs a classifier (tests/tasks/test_robustness.py runs it); the full-size
# configs are run in tests/openmmlab/test_full_size.py.
HERE = [p for p in DOWNSTREAM if p.stem.startswith("embedded_") and "robust" not in p.stem]
RANDOM = "random:vit_demo_patch4_32"

# What makes a recipe small enough to run here: nothing but sizes and lengths.
SMALL_PRETRAIN = (
    "arch=vit_demo_patch4_32", "pixels.img_size=32", "objective.mask_ratio=0.5", "batch_size=40",
    "epochs=1", "optim.warmup_epochs=0", "num_workers=0", "knn_k=5",
)  # fmt: skip
TASK_OF = {
    "knn": ("knn", ("k=5",)),
    "linear": ("linear", ("probe.epochs=2",)),
    "finetune": ("finetune", ("training.epochs=1", "training.batch_size=40")),
    "scratch": ("finetune", ("training.epochs=1", "training.batch_size=40")),
    "upernet": ("ade20k", ("train_cfg.max_iters=2",)),
    "mask_rcnn": ("coco", ("train_cfg.max_iters=2",)),
}


@pytest.mark.parametrize("path", PRETRAIN, ids=lambda path: path.stem)
def test_pretraining_recipe_takes_two_steps(
    micl_bench: Run, few_digits: Path, tmp_path: Path, path: Path
) -> None:
    sets = [word for value in SMALL_PRETRAIN for word in ("--set", value)]
    out = tmp_path / "out"
    done = micl_bench("pretrain", path, "--data", few_digits, "--out", out, *sets)
    assert done.returncode == 0, done.stderr
    assert len((out / "metrics.jsonl").read_text().splitlines()) >= 2
    assert (out / "backbone.pt").exists()


@pytest.mark.parametrize("path", HERE, ids=lambda path: path.stem)
def test_downstream_recipe_gives_records(
    micl_bench: Run, embedded: Path, few_digits: Path, tmp_path: Path, path: Path
) -> None:
    kind = path.stem.partition("_")[2]
    task, small = TASK_OF[kind]
    data = {"ade20k": embedded / "embedded-ade20k", "coco": embedded / "embedded-coco"}
    sets = [word for value in small for word in ("--set", value)]
    words = ("--recipe", path, "--data", data.get(task, few_digits), "--out", tmp_path / "out")
    done = micl_bench("eval", task, "--checkpoint", RANDOM, *words, *sets)
    assert done.returncode == 0, done.stderr
    (record,) = (tmp_path / "out").glob(f"{task}-*.json")
    content = json.loads(record.read_text())
    assert content["method"] == "random weights"
    assert content["command"].startswith(f"micl-bench eval {task} --checkpoint random:")
    for artifact in content["artifacts"].values():
        assert (tmp_path / "out" / artifact).exists()


def test_every_recipe_is_run_somewhere() -> None:
    elsewhere = ("tests/tasks/test_robustness.py", "tests/openmmlab/test_full_size.py")
    text = "".join((REPOSITORY / path).read_text() for path in elsewhere)
    for path in set(DOWNSTREAM) - set(HERE):
        assert path.stem in text, f"no test runs {path}"


def test_every_recipe_opens_with_its_command() -> None:
    for path in (*PRETRAIN, *DOWNSTREAM):
        assert "\n    micl-bench " in path.read_text().split('"""')[1], path


def test_from_scratch_has_the_compute_of_pretraining_and_finetuning() -> None:
    pretrain = load_recipe(REPOSITORY / "pretrain" / "embedded.py", PretrainRecipe)
    finetune = load_recipe(REPOSITORY / "downstream" / "embedded_finetune.py", FinetuneRecipe)
    scratch = load_recipe(REPOSITORY / "downstream" / "embedded_scratch.py", FinetuneRecipe)
    train_images, patches, visible = 1078, 64, 16
    views = pretrain.objective.num_views
    steps = pretrain.epochs * (train_images // pretrain.batch_size)
    tokens = steps * pretrain.batch_size * views * (visible + 1)

    def supervised_tokens(recipe: FinetuneRecipe) -> int:
        batch = recipe.training.batch_size
        return recipe.training.epochs * (train_images // batch) * batch * (patches + 1)

    ratio = supervised_tokens(scratch) / (tokens + supervised_tokens(finetune))
    # Whole epochs only: half of one of 19 is 2.6 %.
    assert abs(ratio - 1) < 0.026

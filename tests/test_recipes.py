"""Every recipe in `pretrain/` and `downstream/` loads, and runs a little on small data, or one of its
kind does."""

import json
import re
import shlex
from pathlib import Path

import pytest
from support import REPOSITORY, Run, good

from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.extrema import ExtreMA
from micl_bench.objectives.ijepa import IJepa
from micl_bench.objectives.micl import MiCL
from micl_bench.runs.optim import OptimConfig, RisingDecay
from micl_bench.runtime.config import load_recipe
from micl_bench.tasks.finetune.run import FinetuneRecipe
from micl_bench.views import patches_per_view

PRETRAIN = sorted((REPOSITORY / "pretrain").rglob("*.py"))
DOWNSTREAM = sorted((REPOSITORY / "downstream").rglob("*.py"))
# The robustness recipe needs a classifier (tests/tasks/test_robustness.py runs it); the full-size
# configs are run in tests/openmmlab/test_ade20k_configs.py and test_coco_configs.py.
HERE = [p for p in DOWNSTREAM if p.stem.startswith("embedded_") and "robust" not in p.stem]
RANDOM = "random:vit_demo_patch4_32"

# What makes a recipe small enough to run here: nothing but sizes, lengths and how it is carried out.
SMALL_PRETRAIN = (
    "pixels.img_size=32", "batch_size=40",
    "epochs=1", "optim.warmup_epochs=0", "num_workers=0", "knn_k=5", "precision=fp32",
    "compile=false", "parallel=ddp", "activation_checkpointing=false", "micro_batch=0",
)  # fmt: skip
# An architecture for the method, and values that fit its 64 patches.
SMALL_METHOD = ("arch=vit_demo_patch4_32", "objective.mask_ratio=0.5")
SMALL_METHODS = {
    "DINO": ("arch=vit_demo_patch4_32", "objective.local_size=16", "objective.outputs=64"),
    "ExtreMA": ("arch=vit_demo_patch4_32_nocls",),
    "I-JEPA": ("arch=vit_demo_patch4_32_nocls", "objective.predictor_width=64"),
}
# Of ImageNet's, both sets of values with and without crop, one size each: below, each file's values
# are compared one by one.
CHOSEN = ("s16_code", "b16_doc_crop", "l16_doc", "h14_code_crop")
RUN_HERE = [
    path
    for path in PRETRAIN
    if not path.stem.startswith("imagenet_vit_") or path.stem.endswith(CHOSEN)
]
# Architecture; patches of 224 pixels; patches a view at mask ratio 0.9 and 0.75.
SIZES = {
    "s16": ("vit_small_patch16_224", 196, 9, 24),
    "b16": ("vit_base_patch16_224", 196, 9, 24),
    "l16": ("vit_large_patch16_224", 196, 9, 24),
    "h14": ("vit_huge_patch14_224", 256, 12, 32),
}
# The authors' code and its PRETRAIN.md: mask ratio, epochs, warm-up, batch, base rate, and the peak
# rate that batch / 256 makes of it.
SETS = {
    "code": (0.9, 200, 10, 7200, 5e-5, 1.40625e-3),
    "doc": (0.75, 800, 40, 2048, 1.5e-4, 1.2e-3),
}
# By name: objective and optimiser, smallest crop, flip, epochs and peak rate of the authors.
RIVALS = {
    "extrema": (
        ExtreMA.Config(
            num_subsets=5, mask_ratio=0.8, momentum=0.996, drop_path=0.1, class_attention_blocks=2,
            layer_scale=0.1, hidden_width=4096, output_width=256,
        ),
        OptimConfig(base_lr=1.5e-4, weight_decay=0.1, betas=(0.9, 0.95), warmup_epochs=40),
        (0.2, 1.0), True, 300, 1.2e-3,
    ),
    "ijepa": (
        IJepa.Config(
            num_targets=4, target_share=(0.15, 0.2), target_aspect=(0.75, 1.5),
            context_share=(0.85, 1.0), min_context=10, predictor_depth=6, predictor_width=384,
            momentum=0.996,
        ),
        RisingDecay(
            base_lr=1.25e-4, weight_decay=0.04, final_weight_decay=0.4, betas=(0.9, 0.999),
            warmup_epochs=15,
        ),
        (0.3, 1.0), False, 600, 1e-3,
    ),
}  # fmt: skip
IMAGENET = [(size, values, crop) for size in SIZES for values in SETS for crop in ("", "_crop")]
TASK_OF = {
    "knn": ("knn", ("k=5",)),
    "linear": ("linear", ("probe.epochs=2",)),
    "logistic": ("logistic", ("c=[0.1,1.0]", "max_iter=20")),
    "finetune": ("finetune", ("training.epochs=1", "training.batch_size=40")),
    "scratch": ("finetune", ("training.epochs=1", "training.batch_size=40")),
    "upernet": ("ade20k", ("train_cfg.max_iters=2",)),
    "mask_rcnn": ("coco", ("train_cfg.max_iters=2",)),
    "representation": ("representation", ("map_images=20",)),
}


@pytest.mark.long
@pytest.mark.parametrize("path", RUN_HERE, ids=lambda path: path.stem)
def test_pretraining_recipe_takes_two_steps(
    micl_bench: Run, few_digits: Path, tmp_path: Path, path: Path
) -> None:
    objective = load_recipe(path, PretrainRecipe).objective
    usual = SMALL_METHOD if hasattr(objective, "mask_ratio") else SMALL_METHOD[:1]
    small = SMALL_METHODS.get(objective.build().name, usual)
    sets = [word for value in (*SMALL_PRETRAIN, *small) for word in ("--set", value)]
    out = tmp_path / "out"
    good(micl_bench("pretrain", path, "--data", few_digits, "--out", out, *sets))
    assert len((out / "metrics.jsonl").read_text().splitlines()) >= 2
    assert (out / "backbone.pt").exists()


@pytest.mark.parametrize(("size", "values", "crop"), IMAGENET, ids=lambda value: value or "whole")
def test_imagenet_recipe_has_the_values_of_its_source(size: str, values: str, crop: str) -> None:
    path = REPOSITORY / "pretrain" / f"imagenet_vit_{size}_{values}{crop}.py"
    recipe = load_recipe(path, PretrainRecipe)
    arch, patches, at_90, at_75 = SIZES[size]
    ratio, epochs, warmup, batch, base_lr, peak = SETS[values]
    per_view = at_90 if values == "code" else at_75
    assert recipe.arch == arch
    assert recipe.sized_arch().num_patches == patches
    assert patches_per_view(patches, mask_ratio=recipe.objective.mask_ratio) == per_view
    assert recipe.objective == MiCL.Config(
        num_views=2, mask_ratio=ratio, kappa=0.015625, temperature=0.07, negatives="device"
    )
    assert (recipe.epochs, recipe.optim.warmup_epochs, recipe.batch_size) == (epochs, warmup, batch)
    assert (recipe.optim.base_lr, recipe.optim.weight_decay) == (base_lr, 0.05)
    assert recipe.optim.betas == (0.9, 0.95)
    assert (recipe.optim.layer_decay, recipe.optim.clip_norm) == (1.0, 0.0)
    # Only the rounding of a product and a quotient may differ.
    assert recipe.optim.base_lr * recipe.batch_size / 256 == pytest.approx(peak, rel=1e-15)
    assert (recipe.precision, recipe.seed, recipe.pixels.img_size) == ("bf16", 42, 224)
    assert recipe.pixels.crop_scale == ((0.2, 1.0) if crop else (1.0, 1.0))
    assert recipe.pixels.flip is bool(crop)


@pytest.mark.parametrize(("size", "values", "crop"), IMAGENET, ids=lambda value: value or "whole")
def test_imagenet_recipe_names_itself_its_store_and_its_sisters(
    size: str, values: str, crop: str
) -> None:
    folder = REPOSITORY / "pretrain"
    stem = f"imagenet_vit_{size}_{values}{crop}"
    text = (folder / f"{stem}.py").read_text().split('"""')[1]
    pack, run = re.findall(r"\n    (micl-bench .*?)(?=\n    micl|\n*$)", text, re.DOTALL)
    words, run_words = (shlex.split(command.replace("\\\n", " ")) for command in (pack, run))
    assert run_words[1:4] == ["pretrain", stem, "--data"]
    assert run_words[4] == words[words.index("--out") + 1]
    patch = SIZES[size][0].partition("patch")[2][:2]
    shape = (
        "--size 320 --layout image" if crop else f"--size 224 --layout patch --patch-size {patch}"
    )
    assert " ".join(words).endswith(shape)
    named = set(re.findall(r"imagenet_vit\w+\.py", text))
    other = "doc" if values == "code" else "code"
    sisters = (f"{size}_{other}{crop}", f"{size}_{values}{'' if crop else '_crop'}")
    assert named == {f"imagenet_vit_{sister}.py" for sister in sisters}
    assert all((folder / name).is_file() for name in named)
    for fact in ("85.8", "133 hours on 4 A100", "stated", "ViT-L/16", "paper"):
        assert fact in text.replace("\n", " ")


def test_there_are_no_other_imagenet_recipes_of_micl() -> None:
    wanted = {f"imagenet_vit_{size}_{values}{crop}" for size, values, crop in IMAGENET}
    assert len(wanted) == 16
    assert {path.stem for path in PRETRAIN if path.stem.startswith("imagenet_vit")} == wanted


@pytest.mark.parametrize("size", ["s16", "b16"])
@pytest.mark.parametrize("name", RIVALS)
def test_rivals_imagenet_recipe_has_the_values_of_its_source(name: str, size: str) -> None:
    path = REPOSITORY / "pretrain" / f"imagenet_{name}_vit_{size}.py"
    recipe = load_recipe(path, PretrainRecipe)
    objective, optim, crop, flip, epochs, peak = RIVALS[name]
    assert recipe.arch == SIZES[size][0] + "_nocls"
    assert recipe.objective == objective
    assert recipe.optim == optim
    assert (recipe.pixels.crop_scale, recipe.pixels.flip) == (crop, flip)
    assert (recipe.epochs, recipe.batch_size) == (epochs, 2048)
    assert recipe.optim.base_lr * recipe.batch_size / 256 == pytest.approx(peak, rel=1e-12)
    text = path.read_text().split('"""')[1]
    assert f"pretrain imagenet_{name}_vit_{size} " in text
    assert "no published number" in text if size == "s16" else "%" in text


@pytest.mark.long
@pytest.mark.parametrize("path", HERE, ids=lambda path: path.stem)
def test_downstream_recipe_gives_records(
    micl_bench: Run, embedded: Path, few_digits: Path, tmp_path: Path, path: Path
) -> None:
    kind = path.stem.partition("_")[2]
    task, small = TASK_OF[kind]
    data = {"ade20k": embedded / "embedded-ade20k", "coco": embedded / "embedded-coco"}
    sets = [word for value in small for word in ("--set", value)]
    words = ("--recipe", path, "--data", data.get(task, few_digits), "--out", tmp_path / "out")
    good(micl_bench("eval", task, "--checkpoint", RANDOM, *words, *sets))
    (record,) = (tmp_path / "out").glob(f"{task}-*.json")
    content = json.loads(record.read_text())
    assert content["method"] == "random weights"
    assert content["command"].startswith(f"micl-bench eval {task} --checkpoint random:")
    for artifact in content["artifacts"].values():
        assert (tmp_path / "out" / artifact).exists()


def test_every_recipe_is_run_somewhere() -> None:
    elsewhere = (
        "tests/tasks/test_knn_task.py",
        "tests/tasks/test_robustness.py",
        "tests/tasks/test_finetune.py",
        "tests/tasks/test_linear.py",
        "tests/tasks/test_logistic.py",
        "tests/openmmlab/test_ade20k_configs.py",
        "tests/openmmlab/coco_configs.py",
    )
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

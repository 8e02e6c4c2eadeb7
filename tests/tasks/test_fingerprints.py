"""Every key of every recipe is declared as moving the number or not, and its fingerprint follows.

A new key of a recipe belongs into one of the two tables here.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from micl_bench.data.pixels import Pixels, evaluation_settings
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.engine.pretraining.records import run_settings
from micl_bench.engine.supervised.recipe import FinetuneRecipe
from micl_bench.objectives.micl import MiCL
from micl_bench.records.result import Result
from micl_bench.runs.optim import OptimConfig
from micl_bench.runtime import plugins
from micl_bench.runtime.config import override, resolve
from micl_bench.runtime.files import digest_json
from micl_bench.tasks import Request, running
from micl_bench.tasks.finetune.run import training_settings

RANDOM = "random:vit_demo_patch4_32"
# What makes a run of a task a fraction of a second.
SMALL: dict[str, tuple[str, ...]] = {
    "knn": ("pixels.img_size=8", "k=5", "ks=[5]"),
    "linear": (
        *("pixels.img_size=8", "pixels.crop_scale=[1,1]", "pixels.flip=false", "fraction=0.5"),
        *("probe.epochs=2", "probe.batch_size=16", "probe.warmup_epochs=0"),
        *("probe.base_lrs=[0.1,0.2]", "selection=evaluated"),
    ),
    "logistic": ("pixels.img_size=8", "c=[1,10]", "max_iter=3", "held_out=0.3", "fraction=0.5"),
    "representation": (
        *("pixels.img_size=16", "images=8", "view_images=8", "map_images=4", "pictures=1"),
        "mask_ratio=0.5",
    ),
    "robustness": ("sets=[embedded_a]",),
}
# The keys that move the number with a value that does, as `--set` takes them. Pre-training's `knn_k` is
# of the accuracy that is measured on the way.
MOVING = {
    "knn": "pixels.img_size=12 pixels.crop_pct=0.5 k=6 temperature=0.1 pool=avg precision=bf16",
    "linear": (
        "pixels.img_size=12 pixels.crop_pct=0.5 pixels.crop_scale=[0.5,1] pixels.flip=true "
        "probe.readouts=[avg_1] probe.base_lrs=[0.1,0.3] probe.batch_norm=false "
        "probe.optimizer=sgd probe.epochs=3 probe.steps=3 probe.warmup_epochs=1 "
        "probe.batch_size=20 selection=held_out fraction=0.75 precision=bf16 labels=LIST"
    ),
    "logistic": (
        "pixels.img_size=12 pixels.crop_pct=0.5 readout=avg_1 c=[1,20] held_out=0.4 "
        "centred_rows=true intercept=false max_iter=4 tolerance=0.5 fraction=0.75 "
        "precision=bf16 labels=LIST"
    ),
    "representation": (
        "pixels.img_size=32 pixels.crop_pct=0.5 num_views=3 mask_ratio=0.25 images=9 "
        "view_images=9 precision=bf16"
    ),
    "robustness": "pixels.crop_pct=0.5 precision=bf16",
    "finetune": (
        "pixels.img_size=16 pixels.crop_pct=0.5 pixels.crop_scale=[0.5,1] pixels.flip=false "
        "training.optim.base_lr=0.1 training.optim.weight_decay=0.1 "
        "training.optim.betas=[0.5,0.9] training.optim.warmup_epochs=1 "
        "training.optim.layer_decay=0.5 training.optim.clip_norm=1 training.epochs=3 "
        "training.batch_size=64 training.label_smoothing=0 training.min_lr=0 "
        "augment.rand_augment= augment.erase_probability=0 mix.mixup=0.5 mix.cutmix=0.5 "
        "mix.probability=0.5 mix.switch_probability=0.25 mix.group=16 pool=token "
        "head_norm=pretrained drop_path=0 precision=bf16"
    ),
    "pretrain": (
        "arch=vit_small_patch16_224 objective.num_views=3 objective.mask_ratio=0.25 "
        "objective.kappa=0 objective.temperature=0.1 objective.negatives=global "
        "pixels.img_size=48 pixels.crop_pct=0.5 pixels.crop_scale=[0.5,1] pixels.flip=true "
        "optim.base_lr=0.1 optim.weight_decay=0.1 optim.betas=[0.5,0.9] optim.warmup_epochs=1 "
        "optim.layer_decay=0.5 optim.clip_norm=1 batch_size=16 epochs=3 precision=bf16 "
        "knn_k=5"
    ),
}
# Those that do not: of training where a task trains nothing, of metrics that bear their k in their
# names, of the loss and of pictures where views are compared; each shifted set has a record of its own,
# which says which images there were.
STILL = {
    "knn": (
        "pixels.crop_scale=[0.5,1] pixels.flip=true ks=[5,7] batch_size=7 num_workers=1 "
        "memory_mib=64 seed=0"
    ),
    "linear": "batch_size=7 num_workers=1 save_every_steps=1 seed=0",
    "logistic": "pixels.crop_scale=[0.5,1] pixels.flip=true batch_size=7 num_workers=1 seed=0",
    "representation": (
        "pixels.crop_scale=[0.5,1] pixels.flip=true kappa=0.5 map_images=6 map_classes=3 "
        "perplexity=2 pictures=2 batch_size=7 num_workers=1 seed=0"
    ),
    "robustness": (
        "pixels.img_size=0 pixels.crop_scale=[0.5,1] pixels.flip=true sets=[embedded_a] "
        "allow_partial=true batch_size=7 num_workers=1 seed=0"
    ),
    "finetune": (
        "micro_batch=3 compile=true check_every_epochs=7 save_every_steps=7 num_workers=3 seed=1"
    ),
    "pretrain": (
        "micro_batch=3 compile=true parallel=fsdp activation_checkpointing=true "
        "knn_every_epochs=7 save_every_steps=7 num_workers=3 seed=1"
    ),
}
PRETRAIN = PretrainRecipe(
    arch="vit_demo_patch4_32",
    objective=MiCL.Config(mask_ratio=0.5),
    pixels=Pixels(img_size=32, crop_pct=1.0),
    optim=OptimConfig(base_lr=1e-3),
    batch_size=8,
    epochs=2,
)
RUN = tuple(SMALL)
CALCULATED = ("finetune", "pretrain")


def changes_in(table: dict[str, str], kind: str) -> dict[str, str]:
    return dict(word.split("=", 1) for word in table[kind].split())


def keys_of(recipe: Any, place: str = "") -> Iterator[str]:
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if dataclasses.is_dataclass(value):
            yield from keys_of(value, f"{place}{field.name}.")
        else:
            yield f"{place}{field.name}"


def default(kind: str) -> Any:
    return PRETRAIN if kind == "pretrain" else running(kind).RECIPE()


def calculated(recipe: Any) -> str:
    if isinstance(recipe, PretrainRecipe):
        return digest_json(run_settings(recipe))
    assert isinstance(recipe, FinetuneRecipe)
    settings = training_settings(recipe, recipe.precision)
    return digest_json({**evaluation_settings(recipe.pixels), **settings})


@pytest.fixture(scope="module")
def classifier(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of 16 pixels, for robustness."""
    out = tmp_path_factory.mktemp("classifier")
    sets = (*SMALL["linear"], "pixels.img_size=16")
    evaluated("linear", embedded / "embedded", out, RANDOM, *sets)
    return out / "classifier.pt"


def evaluated(task: str, data: Path, out: Path, checkpoint: object, *overrides: str) -> Result:
    request = Request(checkpoint=str(checkpoint), data=data, out=out, overrides=overrides)
    (result,) = running(task).run(request)
    return result


@pytest.mark.parametrize("kind", sorted(MOVING))
def test_every_key_is_declared_once(kind: str) -> None:
    moving, still = set(changes_in(MOVING, kind)), set(changes_in(STILL, kind))
    assert moving | still == set(keys_of(default(kind)))
    assert not moving & still
    for task in plugins.names("tasks"):
        # The others' recipes are mmengine's configs: tests/tasks/test_dense_settings.py.
        assert task in MOVING or task in ("ade20k", "coco")


@pytest.mark.parametrize("kind", CALCULATED)
def test_fingerprints_of_trainings_follow_the_tables(kind: str) -> None:
    recipe = default(kind)
    base = calculated(recipe)
    if kind == "pretrain":
        # Its sizes go together.
        recipe = override(recipe, ["pixels.img_size=48", "objective.mask_ratio=0.2"])
        base = calculated(recipe)
    for key, value in changes_in(MOVING, kind).items():
        sized = "96" if key == "pixels.img_size" else value
        more = ["pixels.img_size=224"] if key == "arch" else []
        moved = calculated(override(recipe, [f"{key}={sized}", *more]))
        assert moved != (calculated(override(recipe, more)) if more else base), key
    for key, value in changes_in(STILL, kind).items():
        changed = override(recipe, [f"{key}={value}"])
        assert changed != recipe, key
        assert calculated(changed) == base, key


@pytest.mark.parametrize(
    "task", [RUN[0], *(pytest.param(task, marks=pytest.mark.long) for task in RUN[1:])]
)
def test_fingerprints_of_evaluations_follow_the_tables(
    task: str, few_digits: Path, embedded: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data, checkpoint = (
        (embedded, request.getfixturevalue("classifier"))
        if task == "robustness"
        else (few_digits, RANDOM)
    )
    names = sorted((few_digits / "train").glob("*/*"))[::3]
    (tmp_path / "list.txt").write_text("\n".join(path.name for path in names))
    base = evaluated(task, data, tmp_path / "base", checkpoint, *SMALL[task])
    found = {}
    for key, value in changes_in(MOVING, task).items():
        text = value.replace("LIST", str(tmp_path / "list.txt"))
        more = ["fraction=1"] if key == "labels" else []
        sets = (*SMALL[task], f"{key}={text}", *more)
        found[key] = evaluated(task, data, tmp_path / key, checkpoint, *sets).fingerprint
    assert [key for key in found if found[key] == base.fingerprint] == []
    assert len(set(found.values())) == len(found)
    changes = STILL[task].split()
    kind = running(task).RECIPE
    assert resolve(kind, None, [*SMALL[task], *changes]) != resolve(kind, None, SMALL[task])
    still = evaluated(task, data, tmp_path / "still", checkpoint, *SMALL[task], *changes)
    assert still.fingerprint == base.fingerprint
    assert {name: still.metrics[name] for name in base.metrics} == base.metrics
    # Runs of other seeds are draws of one protocol.
    other = evaluated(task, data, tmp_path / "seed", checkpoint, *SMALL[task], "seed=1")
    assert (other.seed, other.fingerprint) == (1, base.fingerprint)

"""Fine-tuning: its recipes, its record, and that a kill or more processes change nothing."""

import contextlib
import dataclasses
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support import (
    REPOSITORY,
    Command,
    Run,
    finish,
    good,
    intervals_in,
    losses,
    overrides,
    record_in,
    refused,
    signalled,
    torchrun,
    values_in,
)

from micl_bench.checkpoints import load_checkpoint
from micl_bench.cli.app import main
from micl_bench.data.folder import open_folder
from micl_bench.data.pixels import Pixels
from micl_bench.data.stream import evaluation_batches
from micl_bench.engine.supervised import trainer as supervised
from micl_bench.engine.supervised.mixing import MixConfig, Mixing
from micl_bench.engine.supervised.recipe import FinetuneRecipe
from micl_bench.records.evidence.predictions import read_predictions
from micl_bench.records.provenance import Measurement
from micl_bench.runs.run import Run as TrainingRun
from micl_bench.runs.states import States
from micl_bench.runtime.config import load_recipe
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import read_metrics

RANDOM = "random:vit_demo_patch4_32"
# All that MAE does is on: RandAugment, erasing, mixing, drop path, layer decay.
SMALL = (
    "pixels.img_size=16", "training.epochs=4", "training.batch_size=16", "mix.group=4",
    "training.optim.warmup_epochs=1", "save_every_steps=3", "check_every_epochs=2",
)  # fmt: skip
STEPS = 20
TIMES = ("images_per_second", "data_wait", "seconds_left")
# One step an epoch, with a save and a look after each.
ALL_LOOKS = ("training.batch_size=80", "training.epochs=12", "check_every_epochs=1")
RECIPES = ("s16", "b16", "l16", "h14")
# Nothing but sizes, lengths and how it is carried out.
SHORT = ("pixels.img_size=16", "training.epochs=1", "training.batch_size=40", "compile=false")


def words(data: Path, out: Path, *more: str, start: str = RANDOM) -> list[str]:
    command = ["eval", "finetune", "--checkpoint", start, "--data", str(data), "--out", str(out)]
    return command + overrides(*SMALL, *more)


def weights(out: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(out / "classifier.pt", weights_only=True)["model"]
    return found


def logged(out: Path) -> list[dict[str, Any]]:
    """The log without what a clock gave."""
    return [
        {name: value for name, value in row.items() if name not in TIMES}
        for row in read_metrics(out / "metrics.jsonl")
    ]


def looks(out: Path) -> list[int]:
    return [row["step"] for row in logged(out) if "held_out_top1" in row]


def assert_equal_runs(out: Path, whole: Path) -> None:
    assert logged(out) == logged(whole)
    ours, theirs = weights(out), weights(whole)
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert values_in(record_in(out, "finetune")) == values_in(record_in(whole, "finetune"))
    assert record_in(out, "finetune")["fingerprint"] == record_in(whole, "finetune")["fingerprint"]


@pytest.fixture(scope="module")
def whole(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "run"
    finish(words(few_digits, out))
    assert len(losses(out)) == STEPS
    return out


@pytest.mark.long
def test_a_signal_saves_and_only_the_same_run_goes_on(
    whole: Path, few_digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = words(few_digits, out, "save_every_steps=1000")
    messages = signalled(command, out, 4, signal.SIGUSR1)
    step = len(losses(out))
    assert f"stopped by SIGUSR1 after saving step {step} of {STEPS}" in messages
    assert not list(out.glob("finetune-*.json"))
    others = (
        words(few_digits, out, "mix.group=8"),
        words(few_digits, out, start=str(whole / "classifier.pt")),
    )
    for other in others:
        second = refused(Command(*other).wait())
        assert "holds a run of another recipe or other data" in second.stderr

    assert f"going on from step {step} of {STEPS}" in finish(command)
    assert_equal_runs(out, whole)


@pytest.mark.long
def test_looks_at_held_out_images_outlive_every_cut_and_none_is_done_twice(
    few_digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    finish(words(few_digits, whole, *ALL_LOOKS))
    command = words(few_digits, out, *ALL_LOOKS)
    # SIGTERM cuts between a save and its look.
    signalled(command, out, 3, signal.SIGTERM)
    before = looks(out)
    assert before == list(range(1, len(losses(out))))
    assert before
    process = Command(*command)
    while len(looks(out)) < 6 and process.is_running():
        time.sleep(0.005)
    process.send(signal.SIGKILL)
    assert process.wait().returncode == -signal.SIGKILL
    kept = looks(out)
    assert kept == list(range(1, kept[-1] + 1))

    done, really = 0, supervised.run_over_folder

    def counted(*arguments: Any, **named: Any) -> Any:
        nonlocal done
        done += 1
        return really(*arguments, **named)

    monkeypatch.setattr(supervised, "run_over_folder", counted)
    monkeypatch.setattr("sys.argv", ["micl-bench", *command])
    with contextlib.suppress(SystemExit):
        main()
    assert done == 12 - len(kept)
    assert looks(out) == list(range(1, 13))
    assert_equal_runs(out, whole)


@pytest.mark.long
def test_two_processes_and_micro_batches_give_the_same_classifier(
    whole: Path, few_digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    done = good(torchrun(2, "-m", "micl_bench", *words(few_digits, out, "micro_batch=3")))
    assert "batch 16 = 2 x 8 images, 3 a forward pass" in done.stderr
    # The same images, mixed and dropped alike; sums in another order, in fp32.
    assert losses(out) == pytest.approx(losses(whole), rel=1e-3)
    ours, theirs = weights(out), weights(whole)
    for name, value in theirs.items():
        # The gradient of a key's bias is rounding alone, which Adam blows up.
        if not name.endswith("qkv.bias"):
            assert (ours[name] - value).norm() < 0.02 * value.norm() + 1e-4, name
    record = record_in(out, "finetune")
    assert record["fingerprint"] == record_in(whole, "finetune")["fingerprint"]
    assert record["details"]["processes"] == 2


def test_the_record_tells_what_moved_the_number(whole: Path, few_digits: Path) -> None:
    record, val = record_in(whole, "finetune"), open_folder(few_digits / "val")
    settings, details = record["settings"], record["details"]
    assert settings["pool"] == "avg"
    assert settings["precision"] == "fp32"
    assert settings["augment"] == {
        "rand_augment": "rand-m9-mstd0.5-inc1",
        "erase_probability": 0.25,
    }
    assert (settings["mix"]["mixup"], settings["mix"]["cutmix"]) == (0.8, 1.0)
    assert (settings["drop_path"], settings["training"]["optim"]["layer_decay"]) == (0.1, 0.65)
    assert settings["training"]["min_lr"] == 1e-6
    assert not {"seed", "num_workers", "micro_batch", "compile"} & settings.keys()
    assert (details["steps"], record["train"]["images"]) == (STEPS, 80)
    assert record["train"]["split"] == "train"
    assert "training_data" not in details
    assert settings["head_norm"] == "fresh"
    assert settings["head"].endswith("on a norm at weight 1, bias 0")
    assert details["peak_learning_rate"] == pytest.approx(5e-4 * 16 / 256)
    assert details["images_per_second"] > 0
    rows = read_metrics(whole / "metrics.jsonl")
    assert looks(whole) == [10, 20]
    assert rows[-1]["held_out_top1"] == pytest.approx(values_in(record)["top1"])
    assert {"loss", "lr", "images_per_second", "data_wait"} <= rows[0].keys()
    assert rows[STEPS]["lr"] < 2e-6

    # The kept classifier, run by hand, says what the record's predictions say.
    checkpoint = load_checkpoint(whole / "classifier.pt")
    (batch,) = evaluation_batches(val, Pixels(img_size=16), batch_size=len(val))
    with torch.no_grad():
        logits_MC = checkpoint.classifier()(checkpoint.normalise(batch.images))
    predictions = read_predictions(whole / record["artifacts"]["evidence"])
    assert predictions.files == tuple(str(p.relative_to(val.root)) for p in val.paths)
    assert logits_MC.argmax(1).tolist() == predictions.predicted["top1"].tolist()
    right = (logits_MC.topk(5).indices == batch.labels[:, None]).any(1)
    assert right.int().tolist() == predictions.correct["top5"].tolist()
    assert values_in(record)["top5"] == pytest.approx(100 * right.double().mean().item())
    assert intervals_in(record).keys() == {"top1", "top5"}


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(
    few_digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    wild = ("training.optim.base_lr=1e30", "save_every_steps=1", "mix.mixup=0", "mix.cutmix=0")
    done = refused(Command(*words(few_digits, out, *wild)).wait())
    assert "the loss is not finite at step" in done.stderr.splitlines()[-1]
    assert not (out / "classifier.pt").exists()
    state = States(out / "states").newest()
    assert state is not None
    assert state["step"] == len(losses(out))
    assert torch.isfinite(torch.tensor(state["loss"]))


@pytest.mark.parametrize(
    "size", ["s16", *(pytest.param(size, marks=pytest.mark.long) for size in RECIPES[1:])]
)
def test_imagenet_recipe_runs(micl_bench: Run, few_digits: Path, tmp_path: Path, size: str) -> None:
    # downstream/imagenet_finetune_vit_s16.py, imagenet_finetune_vit_b16.py,
    # imagenet_finetune_vit_l16.py, imagenet_finetune_vit_h14.py
    path = REPOSITORY / "downstream" / f"imagenet_finetune_vit_{size}.py"
    # The recipes' own precision once, [CLS] once.
    more = ("num_workers=0", f"pool={'token' if size == 'b16' else 'avg'}")
    precision = "bf16" if size == "l16" else "fp32"
    sets = overrides(*SHORT, *more, f"precision={precision}")
    place = ("--recipe", path, "--data", few_digits, "--out", tmp_path / "out")
    good(micl_bench("eval", "finetune", "--checkpoint", RANDOM, *place, *sets))
    settings = record_in(tmp_path / "out", "finetune")["settings"]
    assert settings["pool"] == ("token" if size == "b16" else "avg")
    # What the linear layers gave, and the patch projection.
    assert settings["precision"] == precision


@pytest.mark.parametrize(
    ("size", "epochs", "warmup", "base_lr", "layer_decay", "drop_path", "group"),
    [
        ("s16", 200, 20, 5e-4, 0.75, 0.1, 32),
        ("b16", 100, 5, 5e-4, 0.65, 0.1, 32),
        ("l16", 50, 5, 1e-3, 0.75, 0.2, 32),
        ("h14", 50, 5, 1e-3, 0.75, 0.3, 16),
    ],
)
def test_imagenet_recipe_has_the_values_of_its_sources(
    size: str,
    epochs: int,
    warmup: float,
    base_lr: float,
    layer_decay: float,
    drop_path: float,
    group: int,
) -> None:
    path = REPOSITORY / "downstream" / f"imagenet_finetune_vit_{size}.py"
    recipe = load_recipe(path, FinetuneRecipe)
    training = recipe.training
    assert (training.epochs, training.optim.warmup_epochs) == (epochs, warmup)
    assert (training.optim.base_lr, training.optim.layer_decay) == (base_lr, layer_decay)
    assert (recipe.drop_path, recipe.mix.group) == (drop_path, group)
    assert (recipe.pool, recipe.head_norm) == ("avg", "fresh")
    # The linear rule at the published batch: 2e-3 (S, B), 4e-3 (L, H).
    assert training.optim.base_lr * training.batch_size / 256 == pytest.approx(4 * base_lr)
    assert (training.label_smoothing, training.min_lr) == (0.1, 1e-6)
    assert (training.optim.weight_decay, training.optim.betas) == (0.05, (0.9, 0.999))
    assert training.optim.clip_norm == 0.0
    assert (recipe.mix.mixup, recipe.mix.cutmix) == (0.8, 1.0)
    assert (recipe.mix.probability, recipe.mix.switch_probability) == (1.0, 0.5)
    assert recipe.augment.rand_augment == "rand-m9-mstd0.5-inc1"
    assert recipe.augment.erase_probability == 0.25
    assert recipe.pixels == Pixels(
        img_size=224, crop_pct=224 / 256, crop_scale=(0.08, 1.0), flip=True
    )
    text = path.read_text()
    for word in ("[P]", "[F]", "table 9", "pool=token"):
        assert word in text
    assert ("[I]" in text) is (size == "s16")
    if size == "b16":
        # What the task does without a recipe, for a checkpoint of this size.
        own = FinetuneRecipe(pixels=dataclasses.replace(FinetuneRecipe().pixels, img_size=224))
        assert own.what_is_computed() | {"precision": "bf16"} == recipe.what_is_computed()


def test_the_pool_is_an_axis_of_the_fingerprint(
    whole: Path, few_digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    finish(words(few_digits, out, "pool=token", "training.epochs=1", "training.batch_size=80"))
    ours, theirs = record_in(out, "finetune")["settings"], record_in(whole, "finetune")["settings"]
    changed = {key for key in theirs if ours[key] != theirs[key]}
    assert changed == {"pool", "training", "head_norm", "head"}
    assert ours["head_norm"] == "pretrained"
    assert record_in(out, "finetune")["fingerprint"] != record_in(whole, "finetune")["fingerprint"]
    assert "norm.weight" in weights(out)
    assert "fc_norm.weight" in weights(whole)


@pytest.mark.parametrize("fresh", [True, False])
def test_the_norm_under_the_head_starts_fresh_or_pre_trained(fresh: bool) -> None:
    start = load_checkpoint(RANDOM)
    generator = torch.Generator().manual_seed(0)
    for part in ("weight", "bias"):
        start.content.state[f"norm.{part}"] = torch.randn(128, generator=generator)
    options: dict[str, Any] = {"num_classes": 3, "img_size": 32, "drop_path": 0.0, "seed": 0}
    model = start.with_new_head(**options, pool="avg", fresh_norm=fresh)
    images_NCHW = torch.randn(2, 3, 32, 32, generator=generator)
    with torch.no_grad():
        backbone = start.backbone()
        backbone.norm = torch.nn.Identity()
        tokens_NTD = backbone.forward_features(images_NCHW)
        norm = [start.content.state[f"norm.{part}"] for part in ("weight", "bias")]
        weight_D, bias_D = (torch.ones(128), torch.zeros(128)) if fresh else norm
        pooled_ND = torch.nn.functional.layer_norm(
            tokens_NTD[:, 1:].mean(1), (128,), weight_D, bias_D, eps=start.arch.norm_eps
        )
        found_ND = model.forward_head(model.forward_features(images_NCHW), pre_logits=True)
    torch.testing.assert_close(found_ND, pooled_ND, rtol=1e-5, atol=1e-5)
    # [CLS] keeps the norm that it was pre-trained with.
    kept = start.with_new_head(**options, pool="token", fresh_norm=fresh)
    assert torch.equal(kept.norm.weight, start.content.state["norm.weight"])


def test_what_moves_nothing_is_no_axis_of_the_fingerprint() -> None:
    equal: list[list[dict[str, Any]]] = [
        [{"mixup": 0.0, "cutmix": 1.0, "switch_probability": share} for share in (0.1, 0.9)],
        [{"mixup": 0.8, "cutmix": 0.0, "switch_probability": share} for share in (0.1, 0.9)],
        [{"probability": 0.0, "group": 4}, {"mixup": 0.0, "cutmix": 0.0, "group": 8}],
    ]
    computed = []
    for first, second in equal:
        one, other = (
            FinetuneRecipe(mix=MixConfig(**mix)).what_is_computed() for mix in (first, second)
        )
        assert one == other
        computed.append(one["mix"])
    assert computed[0] != computed[1] != computed[2]
    both = [FinetuneRecipe(mix=MixConfig(switch_probability=share)) for share in (0.1, 0.9)]
    assert both[0].what_is_computed() != both[1].what_is_computed()
    # The norm is an axis where the head reads the mean.
    for pool, axis in (("token", False), ("avg", True)):
        found = [
            FinetuneRecipe(pool=pool, head_norm=norm).what_is_computed()
            for norm in ("fresh", "pretrained")
        ]
        assert (found[0] != found[1]) is axis
    with pytest.raises(InputError, match="head_norm is 'new'; needed: fresh or pretrained"):
        FinetuneRecipe(head_norm="new")


NO_MIX = MixConfig(mixup=0.0, cutmix=0.0)


@pytest.mark.parametrize(
    "changes",
    [{"pool": "token"}, {"mix": NO_MIX}, {"mix": MixConfig(cutmix=0.0, switch_probability=0.1)}],
    ids=str,
)
def test_a_value_without_an_effect_keeps_no_run_from_going_on(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    options: dict[str, Any] = {"digests": {}, "measurement": Measurement(command="")}
    TrainingRun(tmp_path, FinetuneRecipe(**changes), **options).claim()
    TrainingRun(tmp_path, FinetuneRecipe(**changes), **options, finished=True)
    for other in ({"seed": 1}, {"pool": "avg", "mix": MixConfig(mixup=0.1)}):
        with pytest.raises(InputError, match="holds a run of another recipe or other data"):
            TrainingRun(tmp_path, FinetuneRecipe(**{**changes, **other}), **options, finished=True)


def test_the_embedded_recipe_goes_on_where_it_was_cut(few_digits: Path, tmp_path: Path) -> None:
    recipe = REPOSITORY / "downstream" / "embedded_finetune.py"
    more = ("training.epochs=3", "training.batch_size=16", "save_every_steps=1")
    command = ["eval", "finetune", "--checkpoint", RANDOM, "--recipe", str(recipe)]
    command += ["--data", str(few_digits), "--out", str(tmp_path / "run")]
    command += overrides(*more)
    signalled(command, tmp_path / "run", 3, signal.SIGTERM)
    assert "going on from step" in finish(command)


@pytest.mark.parametrize(
    "mix", [{"mixup": 0.0, "cutmix": 1.0}, {"mixup": 0.8, "cutmix": 0.0}], ids=str
)
def test_the_switch_moves_nothing_where_there_is_one_way_to_mix(mix: dict[str, float]) -> None:
    found = []
    for share in (0.1, 0.9):
        config = MixConfig(**mix, switch_probability=share, group=4)
        images_NCHW = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        mixing = Mixing(config, num_classes=3, label_smoothing=0.1, seed=0)
        targets_NC = mixing(images_NCHW, torch.arange(8) % 3, epoch=0, first=0)
        found.append((images_NCHW, targets_NC))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))

"""Linear probes as commands: on stored and on augmented images, cut anywhere, over processes."""

import dataclasses
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import (
    REPOSITORY,
    Command,
    Run,
    good,
    overrides,
    record_in,
    refused,
    torchrun,
    values_in,
)

from micl_bench.checkpoints import load_checkpoint
from micl_bench.data.folder import open_folder
from micl_bench.data.packed.pack import pack_tree
from micl_bench.data.packed.store import Form
from micl_bench.data.pixels import Pixels
from micl_bench.data.stream import evaluation_batches
from micl_bench.engine.frozen.features import SLICE_IMAGES, run_over_folder
from micl_bench.engine.frozen.probe.batches import AugmentedImages, StoredFeatures
from micl_bench.records.evidence.predictions import read_predictions
from micl_bench.runtime.config import load_recipe
from micl_bench.tasks.linear.run import LinearRecipe

RANDOM = "random:vit_demo_patch4_32"
DOWNSTREAM = REPOSITORY / "downstream"
SMALL = ("pixels.img_size=32", "num_workers=0", "precision=fp32")
AUGMENTED = (*SMALL, "probe.steps=24", "probe.batch_size=40", "save_every_steps=2")


def words(recipe: str, data: Path, out: Path, *sets: str) -> list[str]:
    found = ["eval", "linear", "--checkpoint", RANDOM, "--data", data, "--out", out]
    found += ["--recipe", DOWNSTREAM / f"{recipe}.py"]
    return [*map(str, found), *overrides(*sets)]


def newest_state(out: Path) -> tuple[int, dict[str, Any]]:
    path = max((out / "states").glob("step-*.pt"))
    return int(path.name.split("-")[1]), torch.load(path, weights_only=True)


def assert_same_end(out: Path, whole: Path) -> None:
    (step, state), (steps, expected) = newest_state(out), newest_state(whole)
    assert step == steps == 24
    assert state["heads"].keys() == expected["heads"].keys()
    assert all(torch.equal(state["heads"][k], v) for k, v in expected["heads"].items())
    assert values_in(record_in(out, "linear")) == values_in(record_in(whole, "linear"))


@pytest.fixture(scope="module")
def whole(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MAE's protocol on augmented images, uninterrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    done = good(Command(*words("imagenet_linear_mae", few_digits, out, *AUGMENTED)).wait())
    # 80 images; PEERS' advice on DINOv2's grid: the rate in use is printed and stored.
    assert "batch 40, 24 steps, learning rates in use 0.015625" in done.stderr
    return out


def test_maes_recipe_has_the_published_values() -> None:
    recipe = load_recipe(DOWNSTREAM / "imagenet_linear_mae.py", LinearRecipe)
    assert recipe.probe == LinearRecipe().probe
    # Its size is that of the checkpoint.
    assert recipe.pixels == dataclasses.replace(LinearRecipe().pixels, img_size=224)
    plan = recipe.probe.plan(1_281_167)
    assert (plan.batch_size, plan.total_steps, plan.warmup_steps) == (16384, 78 * 90, 78 * 10)
    assert plan.scaled(recipe.probe.base_lrs[0]) == pytest.approx(6.4)


def test_dinov2s_recipe_has_the_published_grid() -> None:
    recipe = load_recipe(DOWNSTREAM / "imagenet_linear_dinov2.py", LinearRecipe)
    plan = recipe.probe.plan(1_281_167)
    assert recipe.probe.heads == 52
    assert (plan.batch_size, plan.total_steps, plan.warmup_steps) == (1024, 12500, 0)
    rates = [plan.scaled(rate) for rate in recipe.probe.base_lrs]
    assert rates == pytest.approx(
        [4e-5, 8e-5, 2e-4, 4e-4, 8e-4, 2e-3, 4e-3, 8e-3, 2e-2, 4e-2, 8e-2, 0.2, 0.4]
    )


def test_the_record_says_what_moved_the_number(whole: Path, few_digits: Path) -> None:
    record = record_in(whole, "linear")
    settings, details = record["settings"], record["details"]
    assert settings["training_images"].startswith("random crops of 0.08 to 1 of the area")
    assert settings["learning_rates"] == [0.1 * 40 / 256]
    assert settings["schedule"] == "cosine to 0, 20 of 24 steps of warm-up"
    assert settings["selection"] == "one head"
    assert (settings["precision"], settings["labels"]) == ("fp32", "all")
    assert (record["train"]["split"], record["train"]["images"]) == ("train", 80)
    assert "train" not in details
    # The backbone ran on each crop: only the evaluated images have stored features.
    assert details["features"].keys() == {"val"}
    assert details["features"]["val"].keys() == {"key", "read", "seconds", "computed_with"}
    assert details["grid"] == [details["chosen"]]
    predictions = read_predictions(whole / record["artifacts"]["evidence"])
    assert len(predictions.files) == 40
    assert predictions.accuracy("top1") == values_in(record)["top1"] == details["grid"][0]["top1"]
    # The classifier says the same of each image, through the ViT's own forward.
    checkpoint = load_checkpoint(whole / record["artifacts"]["classifier"])
    test = open_folder(few_digits / "val", classes=checkpoint.classes)
    model = checkpoint.classifier()
    logits_MC, labels_M = run_over_folder(
        lambda images: model(checkpoint.normalise(images)),
        test,
        Pixels(img_size=32),
        device=torch.device("cpu"),
    )
    assert logits_MC.argmax(1).tolist() == predictions.predicted["top1"].tolist()
    assert labels_M.tolist() == predictions.labels_M.tolist()


@pytest.mark.long
def test_killed_and_stopped_it_ends_as_if_nothing_had_happened(
    whole: Path, few_digits: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = words("imagenet_linear_mae", few_digits, out, *AUGMENTED)
    reached = 0
    for number in (signal.SIGKILL, signal.SIGTERM):
        command = Command(*arguments)
        while command.is_running() and not _saved_beyond(out, reached):
            time.sleep(0.002)
        command.send(number)
        done = command.wait()
        reached = newest_state(out)[0]
        assert 0 < reached < 24
    assert done.returncode == 0, done.stderr
    assert f"stopped by SIGTERM after saving step {reached} of 24" in done.stderr
    assert not list(out.glob("linear-*.json"))
    other = refused(Command(*arguments, "--set", "probe.base_lrs=[0.2]").wait())
    assert "another recipe or other data (what differs: probe)" in other.stderr
    done = good(Command(*arguments, "--set", "num_workers=2").wait())
    assert f"going on from step {reached} of 24" in done.stderr
    assert_same_end(out, whole)


def _saved_beyond(out: Path, step: int) -> bool:
    return any(int(p.name.split("-")[1]) > step for p in (out / "states").glob("step-*.pt"))


@pytest.mark.long
def test_two_processes_give_the_same_heads(whole: Path, few_digits: Path, tmp_path: Path) -> None:
    # 40 images are two slices of the backbone, one full: a process each.
    assert SLICE_IMAGES < 40 < 2 * SLICE_IMAGES
    out = tmp_path / "out"
    arguments = words("imagenet_linear_mae", few_digits, out, *AUGMENTED)
    good(torchrun(2, "-m", "micl_bench", *arguments))
    assert_same_end(out, whole)


def test_without_crops_images_and_stored_features_give_the_same_batches(few_digits: Path) -> None:
    """The backbone stays in evaluation mode: its features do not depend on the batch or the step."""
    checkpoint, folder = load_checkpoint(RANDOM), open_folder(few_digits / "train")
    pixels, model = Pixels(img_size=32), checkpoint.backbone()

    def read(images: torch.Tensor) -> torch.Tensor:
        tokens = model.forward_features(checkpoint.normalise(images))
        return torch.stack([tokens[:, 0], tokens[:, 1:].mean(1)], dim=1)

    names, rows, options = ("cls_1", "avg_1"), np.arange(2, 80, 2), {"batch_size": 37, "seed": 4}
    with torch.no_grad():
        batches = evaluation_batches(folder, pixels, batch_size=16)
        stored_ND = torch.cat([read(batch.images) for batch in batches]).unbind(1)
    features = dict(zip(names, stored_ND, strict=True))
    stored = StoredFeatures(folder=folder, features=features, rows_K=np.arange(80), **options)
    online = AugmentedImages(folder=folder, read=read, names=names, pixels=pixels, **options)
    for steps in (range(4), range(3, 5)):
        pairs = list(zip(stored(steps), online(steps), strict=True))
        assert len(pairs) == len(steps)
        for (theirs, their_labels_N), (ours, our_labels_N) in pairs:
            assert torch.equal(our_labels_N, their_labels_N)
            for name, value in theirs.items():
                torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-5)
    few = {"features": {"cls_1": stored_ND[0]}, "rows_K": rows, "batch_size": len(rows)}
    ((features, labels_N),) = StoredFeatures(folder=folder.part(rows), seed=4, **few)(range(1))
    assert sorted(labels_N.tolist()) == folder.labels_N[rows].tolist()
    assert len(features["cls_1"].unique(dim=0)) == len(rows)


def test_the_grid_is_kept_whole_and_says_how_it_was_chosen(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    small = (*SMALL, "probe.steps=6", "probe.batch_size=64")
    good(micl_bench(*words("imagenet_linear_dinov2", few_digits, tmp_path / "a", *small)))
    record = record_in(tmp_path / "a", "linear")
    grid = record["details"]["grid"]
    assert len(grid) == 52
    assert len({(row["readout"], row["learning_rate"]) for row in grid}) == 52
    assert [row["learning_rate"] for row in grid[:13]] == record["settings"]["learning_rates"]
    assert record["settings"]["selection"] == "best of grid on the evaluated images"
    assert max(row["top1"] for row in grid) == values_in(record)["top1"]
    assert all("top1_held_out" not in row for row in grid)

    # Features alone, on fewer heads, chosen elsewhere.
    small += ("pixels.crop_scale=[1,1]", "pixels.flip=false", "probe.base_lrs=[0.01,0.1]")
    small += ("probe.readouts=[avg_1,cls_2+avg_1]", "selection=held_out")
    done = good(micl_bench(*words("imagenet_linear_dinov2", few_digits, tmp_path / "b", *small)))
    assert "no classifier.pt is kept: it would be a ViT of timm's" in done.stderr
    record = record_in(tmp_path / "b", "linear")
    assert record["settings"]["training_images"] == "as evaluated"
    assert "10% of each class's training images, held out" in record["settings"]["selection"]
    best = max(row["top1_held_out"] for row in record["details"]["grid"])
    assert record["details"]["chosen"]["top1_held_out"] == best
    assert values_in(record)["top1"] == record["details"]["chosen"]["top1"]
    assert record["details"]["features"].keys() == {"train", "val"}
    assert record["details"]["classifier"].startswith("none: timm's ViTs put no head on")
    assert "classifier" not in record["artifacts"]


def test_few_labels_are_drawn_or_listed(micl_bench: Run, few_digits: Path, tmp_path: Path) -> None:
    small = ("probe.epochs=2",)
    names = open_folder(few_digits / "train").names
    (tmp_path / "list.txt").write_text("\n".join(names[::4]) + "\n")
    found = {}
    for name, setting in (("list", "labels=list.txt"), ("draw", "fraction=0.25")):
        out = tmp_path / name
        done = good(micl_bench(*words("embedded_linear", few_digits, out, *small, setting)))
        assert "2 to 2 images per class" in done.stderr
        found[name] = record_in(out, "linear")
        assert found[name]["train"]["images"] == 20
        assert found[name]["details"]["features"].keys() == {"train", "val"}
        assert set(found[name]["details"]["labels"]["by class"].values()) == {2}
    assert found["draw"]["settings"]["labels"] == {"drawn by seed, share of each class": 0.25}
    assert set(found["list"]["settings"]["labels"]) == {"list", "images"}
    assert found["list"]["fingerprint"] != found["draw"]["fingerprint"]
    assert found["list"]["train"]["digest"] != found["draw"]["train"]["digest"]
    both = words("embedded_linear", few_digits, tmp_path / "c", "labels=list.txt", "fraction=0.25")
    done = refused(micl_bench(*both))
    assert "give one of the two" in done.stderr


@pytest.mark.parametrize("task", ["linear", "logistic", "finetune"])
def test_a_packed_store_is_refused_by_its_name(
    micl_bench: Run, few_digits: Path, tmp_path: Path, task: str
) -> None:
    pack_tree(few_digits, tmp_path / "stores", Form(layout="patch", size=32, patch_size=4))
    places = ("--data", tmp_path / "stores", "--out", tmp_path / "out")
    done = refused(micl_bench("eval", task, "--checkpoint", RANDOM, *places))
    (line,) = done.stderr.strip().splitlines()
    assert "train is a packed store; this task reads folders of images only" in line

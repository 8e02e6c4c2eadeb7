"""Pre-training: what a run leaves, and that nothing but the recipe changes its losses."""

from pathlib import Path

import pytest
import torch
from support import REPOSITORY, Run, losses, overrides, record_in, refused, values_in
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from micl_bench.data.folder import open_folder
from micl_bench.data.packed.pack import make_form, pack_tree
from micl_bench.data.pixels import Pixels
from micl_bench.data.stream import evaluation_batches
from micl_bench.engine.pretraining.pretrain import Pretrainer
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.runtime.config import load_recipe, override
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import read_metrics

SMALL = ("batch_size=16", "epochs=3", "knn_every_epochs=2", "save_every_steps=2", "knn_k=5")


@pytest.fixture(scope="module")
def recipe() -> PretrainRecipe:
    return override(load_recipe(REPOSITORY / "pretrain" / "embedded.py", PretrainRecipe), SMALL)


@pytest.fixture(scope="module")
def whole(
    recipe: PretrainRecipe, few_digits: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    Pretrainer(recipe, data=few_digits, out=out, command="test").run()
    return out


def test_a_run_leaves_a_record_weights_and_a_line_a_step(whole: Path) -> None:
    rows = read_metrics(whole / "metrics.jsonl")
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 16))
    assert [row["step"] for row in rows if "knn_top1" in row] == [0, 10, 15]
    record = record_in(whole, "pretrain")
    assert values_in(record)["loss"] == losses(whole)[-1]
    assert record["method"] == "MiCL"


@pytest.mark.long
def test_workers_change_nothing(
    whole: Path, recipe: PretrainRecipe, few_digits: Path, tmp_path: Path
) -> None:
    with_workers = override(recipe, ["num_workers=2"])
    Pretrainer(with_workers, data=few_digits, out=tmp_path / "run", command="test").run()
    assert losses(tmp_path / "run") == losses(whole)


def test_micro_batches_and_checkpointing_change_nothing_but_rounding(
    whole: Path, recipe: PretrainRecipe, few_digits: Path, tmp_path: Path
) -> None:
    in_parts = override(recipe, ["micro_batch=5", "activation_checkpointing=true"])
    Pretrainer(in_parts, data=few_digits, out=tmp_path / "run", command="test").run()
    # fp32 sums in another order; a wrong gradient differs in the first digits by the last step.
    assert losses(tmp_path / "run") == pytest.approx(losses(whole), rel=1e-3)


@pytest.fixture(scope="module")
def patch_stores(few_digits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stores") / "patch"
    pack_tree(few_digits, out, make_form("patch", 32, 4, 1.0))
    return out


def test_a_patch_store_gives_the_losses_of_its_folder(
    whole: Path, recipe: PretrainRecipe, patch_stores: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    Pretrainer(recipe, data=patch_stores, out=out, command="test").run()
    assert losses(out) == losses(whole)
    ours, theirs = (record_in(folder, "pretrain") for folder in (out, whole))
    assert ours["data"] == theirs["data"]
    assert values_in(ours)["knn_top1"] == values_in(theirs)["knn_top1"]


def test_an_image_store_serves_crops_and_flips(
    recipe: PretrainRecipe, few_digits: Path, tmp_path: Path
) -> None:
    crops = override(recipe, ["pixels.crop_scale=[0.4,1.0]", "pixels.flip=true", "epochs=1"])
    pack_tree(few_digits, tmp_path / "store", make_form("image", 32, None, None))
    for data, out in ((few_digits, tmp_path / "a"), (tmp_path / "store", tmp_path / "b")):
        Pretrainer(crops, data=data, out=out, command="test").run()
    # The folder's pixels are rounded to whole grey levels after the resampling, the store's are not.
    assert losses(tmp_path / "b") == pytest.approx(losses(tmp_path / "a"), rel=1e-3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("pixels.crop_scale=[0.4,1.0]", "pack with --layout image"),
        ("pixels.flip=true", "pack with --layout image"),
        ("pixels.crop_pct=0.875", "the recipe needs size 32, crop-pct 0.875"),
        ("pixels.img_size=48", "the recipe needs size 48"),
    ],
)
def test_a_store_that_does_not_fit_the_recipe_is_refused(
    recipe: PretrainRecipe, patch_stores: Path, tmp_path: Path, change: str, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        Pretrainer(
            override(recipe, [change]), data=patch_stores, out=tmp_path / "run", command="test"
        )
    assert not (tmp_path / "run").exists()


def test_bfloat16_stays_near_fp32(
    whole: Path, recipe: PretrainRecipe, few_digits: Path, tmp_path: Path
) -> None:
    half = override(recipe, ["precision=bf16"])
    Pretrainer(half, data=few_digits, out=tmp_path / "run", command="test").run()
    found, expected = (torch.tensor(losses(out)) for out in (tmp_path / "run", whole))
    assert not torch.equal(found, expected)
    # bfloat16 has 8 bits: 0.4 % a rounding, averaged over 32 features.
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0)


def test_the_terminal_line_says_how_it_goes(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    words = ("--data", few_digits, "--out", "run", *overrides(*SMALL))
    done = micl_bench("pretrain", "embedded", *words)
    assert "batch 16 = 1 x 16 images" in done.stderr
    assert "learning rate 0.000125 = 0.002 x 16 / 256" in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    for words in ("step 15/15", "epoch 3.0/3", "loss ", "lr ", "images/s", "data-wait", "MFU"):
        assert words in last
    events = EventAccumulator(str(tmp_path / "run" / "events")).Reload()
    in_events = [event.value for event in events.Scalars("loss")]
    assert in_events == pytest.approx(losses(tmp_path / "run"), rel=1e-6)  # fp32 there
    assert [event.step for event in events.Scalars("rankme")] == [0, 10, 15]
    for tag in events.Tags()["scalars"]:
        steps = [event.step for event in events.Scalars(tag)]
        assert len(set(steps)) == len(steps), f"{tag} has two values at one step"


def test_a_representation_that_learns_nothing_is_warned_about_once(
    micl_bench: Run, few_digits: Path
) -> None:
    sets = overrides(*SMALL, "optim.base_lr=1e-12", "optim.warmup_epochs=0")
    done = micl_bench("pretrain", "embedded", "--data", few_digits, "--out", "run", *sets)
    assert done.stderr.count("warning: step 5: collapse: for an epoch the loss has been") == 1
    assert done.stderr.count("warning") == 1


def test_another_recipe_does_not_go_on_in_the_same_folder(
    whole: Path, recipe: PretrainRecipe, few_digits: Path
) -> None:
    with pytest.raises(InputError, match="another recipe"):
        Pretrainer(override(recipe, ["epochs=4"]), data=few_digits, out=whole, command="test")


def test_bad_folders_are_refused_in_one_line(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty" / "train" / "digit_0"
    empty.mkdir(parents=True)
    unreadable = tmp_path / "unreadable"
    for split in ("train", "val"):
        (unreadable / split / "digit_0").mkdir(parents=True)
        (unreadable / split / "digit_0" / "x.jpg").write_bytes(b"no image")
    for data, words in (
        (tmp_path / "missing", "no image folder"),
        (tmp_path / "empty", "has no image"),
        (unreadable, "has, 1 image; lower it"),
        (few_digits / "train", "no image folder"),
    ):
        done = refused(micl_bench("pretrain", "embedded", "--data", data, "--out", "run"))
        assert words in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(few_digits: Path, tmp_path: Path, workers: int) -> None:
    bad = tmp_path / "digit_0" / "bad.jpg"
    bad.parent.mkdir()
    bad.write_bytes(b"no image")
    folder = open_folder(tmp_path)
    with pytest.raises(InputError, match=r"bad\.jpg is no readable image") as caught:
        list(evaluation_batches(folder, Pixels(img_size=32), batch_size=1, num_workers=workers))
    assert "\n" not in str(caught.value)


@pytest.mark.long
def test_compiled_blocks_change_nothing_but_rounding(
    whole: Path, recipe: PretrainRecipe, few_digits: Path, tmp_path: Path
) -> None:
    compiled = override(recipe, ["compile=true"])
    Pretrainer(compiled, data=few_digits, out=tmp_path / "run", command="test").run()
    # Fused sums in another order; the last steps of fifteen show a wrong gradient in the first digits.
    assert losses(tmp_path / "run") == pytest.approx(losses(whole), rel=1e-3)

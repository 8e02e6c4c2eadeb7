"""Both demo configs through `run`, cut to two steps: results, traces left, and what is refused."""

import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import _load_checkpoint
from numpy.typing import NDArray
from small_sets import changed_config

from micl_bench.backbone import Arch
from micl_bench.checkpoints import load_checkpoint, save_checkpoint
from micl_bench.openmmlab import Outcome, run
from micl_bench.openmmlab.configs import fit_to, resolve
from micl_bench.openmmlab.isolation import no_trace
from micl_bench.records.evidence.confusions import read_confusions
from micl_bench.runtime.errors import InputError

DEMO = "random:vit_demo_patch4_32"
TASKS = ("ade20k", "coco")
SMALL = (
    "train_cfg.max_iters=2",
    "auto_scale_lr.base_batch_size=2",
    "train_dataloader.dataset.indices=8",
    "val_dataloader.batch_size=3",
    "val_dataloader.dataset.indices=7",
)
NUM_IMAGES = 7


def small_run(task: str, embedded: Path, work_dir: Path, more: str = "", **options: Any) -> Outcome:
    """The demo's config, with more lines if given, cut short."""
    config = changed_config(work_dir.parent / f"{work_dir.name}.py", task, more=more)
    options = {"checkpoint": DEMO, "data": embedded / f"embedded-{task}", "seed": 0, **options}
    options["overrides"] = (*SMALL, *options.get("overrides", ()))
    return run(config, work_dir=work_dir, **options)


@pytest.fixture(scope="module")
def outcomes(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Outcome]]:
    """Each task twice, in turns, in one process."""
    found: dict[str, list[Outcome]] = {task: [] for task in TASKS}
    for turn in range(2):
        for task in TASKS:
            work_dir = tmp_path_factory.mktemp(f"{task}{turn}")
            found[task].append(small_run(task, embedded, work_dir))
    return found


def assert_same_arrays(first: Path, second: Path) -> None:
    with np.load(first) as one, np.load(second) as other:
        assert one.files == other.files
        for name in one.files:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.long
@pytest.mark.parametrize("task", TASKS)
def test_same_seed_same_result(outcomes: dict[str, list[Outcome]], task: str) -> None:
    first, second = outcomes[task]
    assert first.metrics == second.metrics
    assert first.subject.recipe == second.subject.recipe
    assert_same_arrays(first.predictions, second.predictions)


@pytest.mark.long
@pytest.mark.parametrize("task", TASKS)
def test_how_many_images_are_read_at_a_time_moves_no_bit_and_no_setting(
    outcomes: dict[str, list[Outcome]], embedded: Path, tmp_path: Path, task: str
) -> None:
    three = outcomes[task][0]
    for number in (1, 7):
        size = f"val_dataloader.batch_size={number}"
        found = small_run(task, embedded, tmp_path / str(number), overrides=(size,))
        assert (found.metrics, found.settings) == (three.metrics, three.settings)
        assert_same_arrays(found.evidence, three.evidence)
        assert_same_arrays(found.predictions, three.predictions)


@pytest.mark.parametrize("task", TASKS)
def test_the_outcome_tells_what_ran(outcomes: dict[str, list[Outcome]], task: str) -> None:
    outcome = outcomes[task][0]
    subject, config = outcome.subject, outcome.subject.recipe
    assert subject.arch == "vit_demo_patch4_32"
    assert [one["images"] for one in outcome.data.values()] == [8, NUM_IMAGES]
    assert json.loads(json.dumps(config)) == config
    assert (config["train_cfg"]["max_iters"], config["randomness"]["seed"]) == (2, 0)
    assert "Iter(val)" in outcome.log.read_text()
    settings, details = outcome.settings, outcome.details
    assert (settings["steps"], settings["batch"], settings["precision"]) == (2, 2, "fp32")
    assert (details["processes"], details["images_a_pass"]) == (1, 2)
    # The configs keep no model.
    assert outcome.model is None
    assert outcome.intervals.keys() == outcome.metrics.keys()
    for name, (low, high) in outcome.intervals.items():
        # The metric is rounded.
        assert low - 0.1 <= outcome.metrics[name] <= high + 0.1
    assert subject.checkpoint.source == DEMO
    assert subject.checkpoint.positions == "8 x 8 to 16 x 16, bicubic, antialiased"
    assert subject.checkpoint.normalisation.startswith("mean 0.485")
    expected = {"ade20k": {"mIoU", "mAcc", "aAcc"}, "coco": {"box_AP", "mask_AP50"}}
    assert expected[task] <= outcome.metrics.keys()
    assert all(0 <= value <= 100 for value in outcome.metrics.values())


def mean_iou(truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> float:
    shares = []
    for label in range(10):
        true, found = truth == label, (predicted == label) & (truth != 255)
        if (true | found).any():
            shares.append((true & found).sum() / (true | found).sum())
    return 100 * float(np.mean(shares))


def test_miou_is_that_of_the_predictions_and_of_the_statistics(
    embedded: Path, tmp_path: Path
) -> None:
    # As many images as predictions are kept of.
    six = ["val_dataloader.dataset.indices=6"]
    outcome = small_run("ade20k", embedded, tmp_path / "out", overrides=six)
    arrays = np.load(outcome.predictions)
    assert arrays["images_NHWC"].shape == (6, 96, 96, 3)
    assert arrays["predicted_NHW"].shape == arrays["truth_NHW"].shape == (6, 96, 96)
    assert set(np.unique(arrays["truth_NHW"])) <= {*range(10), 255}
    assert arrays["predicted_NHW"].max() < 10
    assert arrays["classes"].tolist() == [f"digit_{digit}" for digit in range(10)]
    ours = mean_iou(arrays["truth_NHW"], arrays["predicted_NHW"])
    assert outcome.metrics["mIoU"] == pytest.approx(ours, abs=0.01)
    confusions = read_confusions(outcome.evidence)
    assert confusions.metrics()["mIoU"] == pytest.approx(ours, abs=0.01)
    assert len(confusions.files) == 6


def test_detection_predictions(outcomes: dict[str, list[Outcome]], embedded: Path) -> None:
    arrays = np.load(outcomes["coco"][0].predictions)
    file = embedded / "embedded-coco/annotations/instances_val2017.json"
    annotations = json.loads(file.read_text())
    first_six = {image["id"] for image in annotations["images"][:6]}
    true = [entry for entry in annotations["annotations"] if entry["image_id"] in first_six]
    boxes = np.array([entry["bbox"] for entry in true])
    boxes[:, 2:] += boxes[:, :2]
    np.testing.assert_allclose(arrays["truth_box_T4"], boxes)
    assert arrays["truth_label_T"].tolist() == [entry["category_id"] - 1 for entry in true]
    assert arrays["truth_mask_THW"].sum(axis=(1, 2)).tolist() == [e["area"] for e in true]
    assert arrays["truth_mask_THW"].shape[1:] == arrays["images_NHWC"].shape[1:3]
    found = len(arrays["score_D"])
    assert all(len(arrays[name]) == found for name in ("image_D", "box_D4", "label_D", "mask_DHW"))
    assert (arrays["score_D"] >= 0.05).all()
    assert np.bincount(arrays["image_D"], minlength=1).max() <= 20


@pytest.mark.long
def test_nothing_detected_is_an_ap_of_zero(embedded: Path, tmp_path: Path) -> None:
    nothing = ("model.test_cfg.rcnn.score_thr=1.5",)
    outcome = small_run("coco", embedded, tmp_path / "out", overrides=nothing)
    assert outcome.metrics["box_AP"] == outcome.metrics["mask_AP"] == 0.0
    with np.load(outcome.predictions) as arrays:
        assert arrays["mask_DHW"].shape == (0, *arrays["images_NHWC"].shape[1:3])


def test_another_seed_is_another_run_and_leaves_nothing_in_the_process(
    embedded: Path, tmp_path: Path, outcomes: dict[str, list[Outcome]]
) -> None:
    torch.use_deterministic_algorithms(False)
    scopes, loggers = dict(DefaultScope._instance_dict), dict(MMLogger._instance_dict)
    other, first = small_run("ade20k", embedded, tmp_path / "out", seed=1), outcomes["ade20k"][0]
    assert other.subject.checkpoint.digest != first.subject.checkpoint.digest
    assert other.metrics != first.metrics
    assert other.subject.recipe["model"]["backbone"]["seed"] == 1
    assert DefaultScope._instance_dict == scopes
    assert MMLogger._instance_dict == loggers
    assert not torch.are_deterministic_algorithms_enabled()
    assert not [handler for handler in logging.getLogger().handlers if "mm" in repr(handler)]


def test_the_terminal_shows_progress_alone(
    embedded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small_run("coco", embedded, tmp_path / "out", label="detection of digits")
    shown = capfd.readouterr()
    assert shown.out == ""
    # Two steps of a schedule that is longer, and images read together: that is said first.
    schedule, together, *lines = shown.err.splitlines()
    assert "the last schedule of the learning rate ends at" in schedule
    assert "val_dataloader.batch_size=3 reads that many images at a time" in together
    assert lines
    assert all(line.startswith(("checking", "detection of digits ")) for line in lines), shown.err


def test_interrupting_reaches_the_caller(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("micl_bench.openmmlab.progress_hook.Watch._step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        small_run("ade20k", embedded, tmp_path / "out")


def test_a_config_for_one_width_serves_another(embedded: Path, tmp_path: Path) -> None:
    arch = Arch(name="narrow", img_size=32, patch_size=8, width=64, depth=4, num_heads=1)
    path = tmp_path / "narrow.pt"
    save_checkpoint(path, arch.build(), arch, method="MiCL", provenance={})
    outcome = small_run("coco", embedded, tmp_path / "out", checkpoint=str(path))
    assert outcome.subject.recipe["model"]["neck"]["in_channels"] == [64] * 4
    # Of the neck's maps.
    assert outcome.subject.recipe["model"]["rpn_head"]["in_channels"] == 32


def refused(message: str, embedded: Path, out: Path, task: str = "ade20k", **options: Any) -> None:
    """In one line that says so, and nothing is left."""
    with pytest.raises((InputError, OSError), match=message) as caught:
        small_run(task, embedded, out, **options)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_bad_input_is_refused_before_training(embedded: Path, tmp_path: Path) -> None:
    coco, out = tmp_path / "coco", tmp_path / "out"
    shutil.copytree(embedded / "embedded-coco", coco)
    (coco / "annotations/instances_train2017.json").unlink()
    lacks = "is not laid out for out.py: no annotations/instances_train2017.json in it"
    refused(lacks, embedded, out, "coco", data=coco)
    refused("no data folder at", embedded, out, data=tmp_path / "nowhere")
    refused("images/training", embedded, out, data=coco)
    refused("no checkpoint file at", embedded, out, checkpoint="nowhere.pt")
    refused("no architecture", embedded, out, checkpoint="random:vit_demo")
    refused("needed is mmdet", embedded, out, library="mmdet")
    with pytest.raises(InputError, match="no recipe file"):
        run(tmp_path / "no.py", checkpoint=DEMO, data=coco, work_dir=out)


@pytest.mark.parametrize("place", ["link", "a/link", "a/b/c/d/e/f/g/link"])
@pytest.mark.parametrize("task", ["ade20k", "coco"])
def test_a_data_folder_may_be_a_link(
    embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, place: str
) -> None:
    config = changed_config(tmp_path / "config.py", task)
    data, link = embedded / f"embedded-{task}", tmp_path / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(data)
    monkeypatch.chdir(tmp_path)
    found = resolve(config, checkpoint=DEMO, data=Path(place), seed=0, overrides=())
    assert found.data_root == str(data.resolve())


def test_other_pixels_than_the_checkpoints_are_refused_unless_asked_for(
    embedded: Path, tmp_path: Path
) -> None:
    data = embedded / "embedded-ade20k"
    for old, new, message in (
        (
            "mean=[123.675, 116.28, 103.53]",
            "mean=[127.5, 127.5, 127.5]",
            r"mean is \[127.5, 127.5, 127.5\], but",
        ),
        ("std=[58.395, 57.12, 57.375]", "std=[1, 1, 1]", "--set model.data_preprocessor.std="),
        ("bgr_to_rgb=True", "bgr_to_rgb=False", "bgr_to_rgb is not true"),
    ):
        config = changed_config(tmp_path / "config.py", "ade20k", (old, new))
        with pytest.raises(InputError, match=message):
            run(config, checkpoint=DEMO, data=data, work_dir=tmp_path / "work")
        asked = (f"model.data_preprocessor.{new}",)
        resolved = resolve(config, checkpoint=DEMO, data=data, seed=0, overrides=asked)
        fit_to(resolved, load_checkpoint(DEMO), asked)


REFUSED = {
    "data_root=elsewhere": "the data folder is what --data says",
    "train_cfg.steps=3": "train_cfg has no 'steps'",
    "train_cfg.max_iters": "not of the form",
    "train_cfg.max_iters=0": "train_cfg.max_iters is 0; needed: 1 or more",
    "model.backbone.checkpoint=x.pt": "--checkpoint says",
    "model.backbone.seed=3": "randomness.seed",
    "optim_wrapper.optimizer.lr=nan": "lr is 'nan'; needed: a finite number",
    "val_dataloader.batch_size=-1": "val_dataloader.batch_size is -1; needed: 1 or more",
    "randomness.seed=-1": "randomness.seed is -1; needed: 0 or more",
    "model=3": "model is 3; needed: one of its values set; it has type",
    "model=None": "no model.backbone of type MiCLViT",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_cannot_be_set_is_told(embedded: Path, tmp_path: Path, override: str) -> None:
    refused(REFUSED[override], embedded, tmp_path / "out", overrides=[override])


@pytest.mark.long
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train_cfg.type=OwnLoop", "train_cfg.type is OwnLoop; known: IterBasedTrainLoop"),
        ("optim_wrapper.optimizer.type=NoSuch", "out.py cannot be built: "),
        ("model.decode_head.in_index=[0, 1, 2, 9]", "out.py (cannot be used|fails)"),
        ("val_evaluator.type=NoSuch", "out.py cannot be (built|used): .*NoSuch"),
        ("train_dataloader.dataset.pipeline.2.type=NoSuch", "out.py cannot be"),
        ("val_dataloader.dataset.data_prefix.img_path=images", "7 files .*no such file"),
        ("model.decode_head.loss_decode.loss_weight=1e300", "loss became inf at step 1"),
    ],
)
def test_an_odd_override_is_one_line_and_leaves_nothing(
    embedded: Path, tmp_path: Path, override: str, message: str
) -> None:
    refused(message, embedded, tmp_path / "out", overrides=[override])


class Harmful:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.mark.parametrize(
    "line",
    [
        "load_from = 'w.pth'",
        "model['init_cfg'] = dict(type='Pretrained', checkpoint='w.pth')",
        "head['init_cfg'] = dict(type='mmengine.Pretrained', checkpoint='w.pth')",
        "head['init_cfg'] = dict(type='mmengine.model.weight_init.PretrainedInit', checkpoint='w.pth')",
        "head['init_cfg'] = dict(type='mmengine.model.PretrainedInit', checkpoint='w.pth')",
        "head['init_cfg'] = dict(type=__import__('mmengine.model').model.PretrainedInit, "
        "checkpoint='w.pth')",
    ],
)
def test_weights_are_never_unpickled(embedded: Path, tmp_path: Path, line: str) -> None:
    torch.save({"state_dict": Harmful(tmp_path / "harm")}, tmp_path / "w.pth")
    more = line.replace("head", "model['decode_head']").replace("w.pth", str(tmp_path / "w.pth"))
    refused("unpickle", embedded, tmp_path / "out", more=f"{more}\n")
    assert not (tmp_path / "harm").exists()


def test_mmengines_reader_of_weights_is_shut_while_a_config_runs(tmp_path: Path) -> None:
    torch.save({"state_dict": Harmful(tmp_path / "harm")}, tmp_path / "w.pth")
    with no_trace(), pytest.raises(InputError, match="unpickle"):
        _load_checkpoint(str(tmp_path / "w.pth"))
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("import sys\nsys.exit(3)\n", "SystemExit: 3"),
        (
            "train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)\n",
            "InfiniteSampler has none",
        ),
    ],
)
def test_a_config_that_leaves_or_never_ends_is_told(
    embedded: Path, tmp_path: Path, more: str, message: str
) -> None:
    config = changed_config(tmp_path / "config.py", "ade20k", more=more)
    with pytest.raises(InputError, match=message):
        run(config, checkpoint=DEMO, data=embedded / "embedded-ade20k", work_dir=tmp_path / "out")

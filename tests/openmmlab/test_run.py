"""Both demo configs through `run`, cut to two steps: results, traces left, and what is refused."""

import dataclasses
import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

pytest.importorskip("mmseg")
pytest.importorskip("mmdet")

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint

from micl_bench.backbone import Arch
from micl_bench.checkpoints import load_checkpoint, save_checkpoint
from micl_bench.openmmlab import Outcome, run
from micl_bench.openmmlab.configs import fit_to, resolve
from micl_bench.openmmlab.isolation import no_trace
from micl_bench.records.evidence.confusions import read_confusions
from micl_bench.records.evidence.per_image import measured
from micl_bench.runtime.errors import InputError

DOWNSTREAM = Path(__file__).parents[2] / "downstream"
DEMO = "random:vit_demo_patch4_32"
CONFIGS = {
    "segmentation": ("embedded_upernet.py", "embedded-ade20k"),
    "detection": ("embedded_mask_rcnn.py", "embedded-coco"),
}
SMALL = (
    "train_cfg.max_iters=2",
    "auto_scale_lr.base_batch_size=2",
    "train_dataloader.dataset.indices=8",
    "val_dataloader.batch_size=3",
    "val_dataloader.dataset.indices=7",
)
NUM_IMAGES = 7


def small_run(task: str, embedded: Path, work_dir: Path, **options: Any) -> Outcome:
    config, folder = CONFIGS[task]
    options = {"checkpoint": DEMO, "data": embedded / folder, "seed": 0, **options}
    options["overrides"] = (*SMALL, *options.get("overrides", ()))
    return run(DOWNSTREAM / config, work_dir=work_dir, **options)


@pytest.fixture(scope="module")
def outcomes(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Outcome]]:
    """Each task twice, in turns, in one process."""
    found: dict[str, list[Outcome]] = {task: [] for task in CONFIGS}
    for turn in range(2):
        for task in CONFIGS:
            work_dir = tmp_path_factory.mktemp(f"{task}{turn}")
            found[task].append(small_run(task, embedded, work_dir))
    return found


@pytest.mark.parametrize("task", CONFIGS)
def test_same_seed_same_result(outcomes: dict[str, list[Outcome]], task: str) -> None:
    first, second = outcomes[task]
    assert first.metrics == second.metrics
    assert first.config == second.config
    for name, array in np.load(first.predictions).items():
        assert np.array_equal(array, np.load(second.predictions)[name]), name


@pytest.mark.long
@pytest.mark.parametrize("task", CONFIGS)
def test_how_many_images_are_read_at_a_time_moves_no_bit_and_no_setting(
    outcomes: dict[str, list[Outcome]], embedded: Path, tmp_path: Path, task: str
) -> None:
    three = outcomes[task][0]
    for number in (1, 7):
        size = f"val_dataloader.batch_size={number}"
        found = small_run(task, embedded, tmp_path / str(number), overrides=(size,))
        assert found.metrics == three.metrics
        assert found.settings == three.settings
        for name in ("evidence", "predictions"):
            with (
                np.load(getattr(found, name)) as one,
                np.load(getattr(three, name)) as other,
            ):
                assert all(np.array_equal(one[key], other[key]) for key in other)


@pytest.mark.parametrize("task", CONFIGS)
def test_the_outcome_tells_what_ran(outcomes: dict[str, list[Outcome]], task: str) -> None:
    outcome = outcomes[task][0]
    assert (outcome.arch, outcome.images) == ("vit_demo_patch4_32", NUM_IMAGES)
    assert outcome.checkpoint.source == DEMO
    assert outcome.classes == tuple(f"digit_{digit}" for digit in range(10))
    assert json.loads(json.dumps(outcome.config)) == outcome.config
    assert outcome.config["train_cfg"]["max_iters"] == 2
    assert outcome.config["randomness"]["seed"] == 0
    assert "Iter(val)" in outcome.log.read_text()
    assert (outcome.precision, outcome.batch, outcome.processes) == ("fp32", 2, 1)
    assert outcome.summary == "2 steps of 2 images"
    assert outcome.train_images == 8
    # The configs keep no model.
    assert outcome.model is None
    assert outcome.settings["precision"] == "fp32"
    assert outcome.intervals.keys() == outcome.metrics.keys()
    for name, (low, high) in outcome.intervals.items():
        # The metric is rounded.
        assert low - 0.1 <= outcome.metrics[name] <= high + 0.1
    assert outcome.checkpoint.positions == "8 x 8 to 16 x 16, bicubic, antialiased"
    assert outcome.checkpoint.normalisation.startswith("mean 0.485")
    expected = {"segmentation": {"mIoU", "mAcc", "aAcc"}, "detection": {"box_AP", "mask_AP50"}}
    assert expected[task] <= outcome.metrics.keys()
    assert all(0 <= value <= 100 for value in outcome.metrics.values())


def test_statistics_give_the_metrics_again(outcomes: dict[str, list[Outcome]]) -> None:
    confusions = read_confusions(outcomes["segmentation"][0].evidence)
    assert measured(confusions)["mIoU"] == pytest.approx(
        outcomes["segmentation"][0].metrics["mIoU"], abs=0.01
    )
    assert len(confusions.files) == NUM_IMAGES


def test_segmentation_predictions(outcomes: dict[str, list[Outcome]], embedded: Path) -> None:
    arrays = np.load(outcomes["segmentation"][0].predictions)
    assert arrays["images_NHWC"].shape == (6, 96, 96, 3)
    assert arrays["predicted_NHW"].shape == arrays["truth_NHW"].shape == (6, 96, 96)
    assert set(np.unique(arrays["truth_NHW"])) <= {*range(10), 255}
    assert arrays["predicted_NHW"].max() < 10
    assert arrays["classes"].dtype.kind == "U"


def mean_iou(truth: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> float:
    shares = []
    for label in range(10):
        true, found = truth == label, (predicted == label) & (truth != 255)
        if (true | found).any():
            shares.append((true & found).sum() / (true | found).sum())
    return 100 * float(np.mean(shares))


def test_miou_is_that_of_the_predictions(embedded: Path, tmp_path: Path) -> None:
    # As many images as predictions are kept of.
    outcome = small_run(
        "segmentation", embedded, tmp_path, overrides=["val_dataloader.dataset.indices=6"]
    )
    arrays = np.load(outcome.predictions)
    ours = mean_iou(arrays["truth_NHW"], arrays["predicted_NHW"])
    assert outcome.metrics["mIoU"] == pytest.approx(ours, abs=0.01)


def test_detection_predictions(outcomes: dict[str, list[Outcome]], embedded: Path) -> None:
    arrays = np.load(outcomes["detection"][0].predictions)
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


def test_nothing_is_left_in_the_process(embedded: Path, tmp_path: Path) -> None:
    torch.use_deterministic_algorithms(False)
    scopes, loggers = dict(DefaultScope._instance_dict), dict(MMLogger._instance_dict)
    small_run("segmentation", embedded, tmp_path)
    assert DefaultScope._instance_dict == scopes
    assert MMLogger._instance_dict == loggers
    assert not torch.are_deterministic_algorithms_enabled()
    assert not [handler for handler in logging.getLogger().handlers if "mm" in repr(handler)]


def test_the_terminal_shows_progress_alone(
    embedded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small_run("detection", embedded, tmp_path, label="detection of digits")
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
        small_run("segmentation", embedded, tmp_path)


def test_a_loss_that_is_no_number_stops_the_run(embedded: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="loss became inf at step 1"):
        small_run(
            "segmentation",
            embedded,
            tmp_path,
            overrides=["model.decode_head.loss_decode.loss_weight=1e300"],
        )


@pytest.mark.parametrize("task", CONFIGS)
def test_any_runner_of_mmengine_can_use_the_config(
    embedded: Path, tmp_path: Path, task: str
) -> None:
    name, folder = CONFIGS[task]
    text = (DOWNSTREAM / name).read_text()
    (tmp_path / name).write_text(text.replace(f"work/data/{folder}", str(embedded / folder)))
    config = Config.fromfile(tmp_path / name)
    config.train_cfg.update(max_iters=1)
    config.train_dataloader.batch_size = 2
    config.val_dataloader.dataset.indices = 2
    config.work_dir = str(tmp_path / "work")
    config.experiment_name = f"plain-{task}"
    seen: dict[str, float] = {}

    class Keep(Hook):
        def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
            seen.update(metrics or {})

    scopes = DefaultScope._instance_dict.copy()
    try:
        runner = Runner.from_cfg(config)
        runner.register_hook(Keep())
        runner.train()
    finally:
        DefaultScope._instance_dict = scopes
    assert seen


def refused(message: str, embedded: Path, tmp_path: Path, **options: Any) -> None:
    with pytest.raises(InputError, match=message) as caught:
        small_run(options.pop("task", "segmentation"), embedded, tmp_path, **options)
    assert "\n" not in str(caught.value)


def test_bad_input_is_refused_before_training(embedded: Path, tmp_path: Path) -> None:
    coco = tmp_path / "coco"
    shutil.copytree(embedded / "embedded-coco", coco)
    (coco / "annotations/instances_train2017.json").unlink()
    refused("no annotations file at", embedded, tmp_path, task="detection", data=coco)
    refused("no data folder at", embedded, tmp_path, data=tmp_path / "nowhere")
    refused("images/training", embedded, tmp_path, data=coco)
    refused("no checkpoint file at", embedded, tmp_path, checkpoint="nowhere.pt")
    refused("no architecture", embedded, tmp_path, checkpoint="random:vit_demo")
    refused("train_cfg has no 'steps'", embedded, tmp_path, overrides=["train_cfg.steps=3"])
    refused("not of the form", embedded, tmp_path, overrides=["train_cfg.max_iters"])
    with pytest.raises(InputError, match="no recipe file"):
        run(tmp_path / "no.py", checkpoint=DEMO, data=coco, work_dir=tmp_path, seed=0)


def test_a_config_that_loads_weights_by_itself_is_refused(embedded: Path, tmp_path: Path) -> None:
    text = (DOWNSTREAM / "embedded_upernet.py").read_text()
    for number, line in enumerate(
        ("load_from = 'weights.pth'", "model['init_cfg'] = dict(type='Pretrained', checkpoint='w')")
    ):
        config = tmp_path / f"config{number}.py"
        config.write_text(f"{text}\n{line}\n")
        with pytest.raises(InputError, match="unpickle"):
            run(
                config,
                checkpoint=DEMO,
                data=embedded / "embedded-ade20k",
                work_dir=tmp_path / "work",
                seed=0,
            )


def test_a_config_for_one_width_serves_another(embedded: Path, tmp_path: Path) -> None:
    arch = Arch(name="narrow", img_size=32, patch_size=8, width=64, depth=4, num_heads=1)
    path = tmp_path / "narrow.pt"
    save_checkpoint(path, arch.build(), arch, method="MiCL", provenance={})
    outcome = small_run("detection", embedded, tmp_path / "out", checkpoint=str(path))
    assert outcome.config["model"]["neck"]["in_channels"] == [64] * 4
    # Of the neck's maps.
    assert outcome.config["model"]["rpn_head"]["in_channels"] == 32


def test_other_pixels_than_the_checkpoints_are_refused_unless_asked_for(
    embedded: Path, tmp_path: Path
) -> None:
    text = (DOWNSTREAM / "embedded_upernet.py").read_text()
    for old, new, message in (
        (
            "mean=[123.675, 116.28, 103.53]",
            "mean=[127.5] * 3",
            r"mean is \[127.5, 127.5, 127.5\], but",
        ),
        ("std=[58.395, 57.12, 57.375]", "std=[1.0] * 3", "--set model.data_preprocessor.std="),
        ("bgr_to_rgb=True", "bgr_to_rgb=False", "bgr_to_rgb is not true"),
    ):
        assert old in text
        config = tmp_path / "config.py"
        config.write_text(text.replace(old, new))
        options = {"checkpoint": DEMO, "data": embedded / "embedded-ade20k"}
        options |= {"work_dir": tmp_path / "work", "seed": 0}
        with pytest.raises(InputError, match=message):
            run(config, **options)
        name, _, value = new.partition("=")
        asked = (f"model.data_preprocessor.{name}={eval(value)}",)
        resolved = resolve(config, checkpoint=DEMO, data=options["data"], seed=0, overrides=asked)
        fit_to(resolved, load_checkpoint(DEMO), asked)


@pytest.mark.long
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data_root=elsewhere", "the data folder is what --data says"),
        ("train_cfg.max_iters=many", "max_iters is 'many'; needed: a finite number"),
        ("train_cfg.type=OwnLoop", "train_cfg.type is OwnLoop; known: IterBasedTrainLoop"),
        ("auto_scale_lr.base_batch_size=0", "base_batch_size is 0; needed: 1 or more"),
        ("train_dataloader=5", "train_dataloader is 5; needed: one of its values set"),
        ("optim_wrapper.optimizer.type=NoSuch", "embedded_upernet.py cannot be built: "),
        ("model.decode_head.in_index=[0, 1, 2, 9]", "embedded_upernet.py (cannot be used|fails)"),
        ("val_evaluator.type=NoSuch", "embedded_upernet.py cannot be (built|used): .*NoSuch"),
        ("train_dataloader.dataset.pipeline.2.type=NoSuch", "embedded_upernet.py cannot be"),
        (
            "val_dataloader.dataset.data_prefix.img_path=images",
            "7 files .*no such file",
        ),
    ],
)
def test_an_odd_override_is_one_line_and_leaves_nothing(
    embedded: Path, tmp_path: Path, override: str, message: str
) -> None:
    place = tmp_path / "out"
    with pytest.raises((InputError, OSError), match=message) as caught:
        small_run("segmentation", embedded, place, overrides=[override])
    assert "\n" not in str(caught.value)
    assert not place.exists()


def test_another_seed_is_another_run(
    embedded: Path, tmp_path: Path, outcomes: dict[str, list[Outcome]]
) -> None:
    other = small_run("segmentation", embedded, tmp_path, seed=1)
    first = outcomes["segmentation"][0]
    assert other.checkpoint.digest != first.checkpoint.digest
    assert other.metrics != first.metrics
    assert dataclasses.asdict(other)["config"]["model"]["backbone"]["seed"] == 1


def test_nothing_detected_is_an_ap_of_zero(embedded: Path, tmp_path: Path) -> None:
    nothing = ("model.test_cfg.rcnn.score_thr=1.5",)
    outcome = small_run("detection", embedded, tmp_path, overrides=nothing)
    assert outcome.metrics["box_AP"] == outcome.metrics["mask_AP"] == 0.0
    with np.load(outcome.predictions) as arrays:
        assert arrays["mask_DHW"].shape == (0, *arrays["images_NHWC"].shape[1:3])


def test_bad_input_leaves_no_file(embedded: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        small_run("detection", embedded, tmp_path / "out", checkpoint="no.pt")
    assert not (tmp_path / "out").exists()


PRETRAINED = (
    "dict(type='mmengine.Pretrained', checkpoint='w.pth')",
    "dict(type='mmengine.model.weight_init.PretrainedInit', checkpoint='w.pth')",
    "dict(type='mmengine.model.PretrainedInit', checkpoint='w.pth')",
    "dict(type=__import__('mmengine.model').model.PretrainedInit, checkpoint='w.pth')",
)


class Harmful:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.mark.parametrize("spelling", PRETRAINED)
def test_weights_of_heads_are_never_unpickled(
    embedded: Path, tmp_path: Path, spelling: str
) -> None:
    torch.save({"state_dict": Harmful(tmp_path / "harm")}, tmp_path / "w.pth")
    text = (DOWNSTREAM / "embedded_upernet.py").read_text()
    line = f"model['decode_head']['init_cfg'] = {spelling}"
    config = tmp_path / "config.py"
    config.write_text(f"{text}\n{line.replace('w.pth', str(tmp_path / 'w.pth'))}\n")
    with pytest.raises(InputError, match="unpickle"):
        run(
            config,
            checkpoint=DEMO,
            data=embedded / "embedded-ade20k",
            work_dir=tmp_path / "work",
            overrides=SMALL,
        )
    assert not (tmp_path / "harm").exists()


def test_mmengines_reader_of_weights_is_shut_while_a_config_runs(tmp_path: Path) -> None:
    torch.save({"state_dict": Harmful(tmp_path / "harm")}, tmp_path / "w.pth")
    with no_trace(), pytest.raises(InputError, match="unpickle"):
        _load_checkpoint(str(tmp_path / "w.pth"))
    assert not (tmp_path / "harm").exists()


LEFT_OUT = {
    "train_cfg.max_iters=0": "train_cfg.max_iters is 0; needed: 1 or more",
    "model.backbone.checkpoint=x.pt": "--checkpoint says",
    "model.backbone.seed=3": "randomness.seed",
    "optim_wrapper.optimizer.lr=nan": "lr is 'nan'; needed: a finite number",
    "optim_wrapper.optimizer.lr=1e999": "lr is '1e999'; needed: finite numbers",
    "val_dataloader.batch_size=-1": "val_dataloader.batch_size is -1; needed: 1 or more",
    "train_dataloader.num_workers=-1": "num_workers is -1; needed: from 0 to 1,024",
    "randomness.seed=-1": "randomness.seed is -1; needed: 0 or more",
    "model=3": "model is 3; needed: one of its values set; it has type",
    "model.backbone=3": "model.backbone is 3; needed: one of its values set; it has type",
    "model=None": "no model.backbone of type MiCLViT",
}


@pytest.mark.parametrize("override", LEFT_OUT)
def test_what_cannot_be_set_is_told(embedded: Path, tmp_path: Path, override: str) -> None:
    refused(LEFT_OUT[override], embedded, tmp_path, overrides=[override])


def test_a_config_that_leaves_does_not_take_us_along(embedded: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(InputError, match="SystemExit: 3"):
        run(config, checkpoint=DEMO, data=embedded / "embedded-ade20k", work_dir=tmp_path / "out")


def test_epochs_want_a_sampler_that_ends(embedded: Path, tmp_path: Path) -> None:
    text = (DOWNSTREAM / "embedded_upernet.py").read_text()
    config = tmp_path / "config.py"
    config.write_text(text + "\ntrain_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)\n")
    with pytest.raises(InputError, match="InfiniteSampler has none"):
        run(config, checkpoint=DEMO, data=embedded / "embedded-ade20k", work_dir=tmp_path / "out")


def test_a_task_takes_no_config_of_the_other_library(embedded: Path, tmp_path: Path) -> None:
    refused("needed is mmdet", embedded, tmp_path, library="mmdet")

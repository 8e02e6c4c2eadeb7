"""The configs of the real protocols: what they say, and two steps of each on tiny data in its format."""

import ast
import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmseg")
pytest.importorskip("mmdet")

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope, init_default_scope
from support import REPOSITORY

from micl_bench.backbone import Arch, named_arch
from micl_bench.checkpoints import save_checkpoint
from micl_bench.errors import InputError
from micl_bench.openmmlab import run
from micl_bench.openmmlab.configs import resolve

ADE20K = REPOSITORY / "downstream" / "ade20k_upernet_vit.py"
COCO = REPOSITORY / "downstream" / "coco_mask_rcnn_vit.py"
WIDTH = 32
# COCO numbers its 80 categories up to 90, with gaps.
COCO_IDS = sorted({*range(1, 91)} - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})

# Sizes and lengths only, but for one threshold.
SMALL = (
    "train_dataloader.batch_size=2",
    "train_dataloader.num_workers=0",
    "train_dataloader.persistent_workers=False",
    "train_dataloader.dataset.indices=4",
    "val_dataloader.num_workers=0",
    "val_dataloader.persistent_workers=False",
    "val_dataloader.dataset.indices=3",
)
SMALL_ADE20K = (
    *SMALL,
    "train_cfg.max_iters=2",
    "model.data_preprocessor.size=(64, 64)",
    "model.backbone.img_size=64",
    f"model.decode_head.in_channels={[WIDTH] * 4}",
    "model.decode_head.channels=16",
    f"model.auxiliary_head.in_channels={WIDTH}",
    "model.auxiliary_head.channels=16",
    "model.test_cfg.crop_size=(64, 64)",
    "model.test_cfg.stride=(43, 43)",
    "train_dataloader.dataset.pipeline.2.scale=(256, 64)",
    "train_dataloader.dataset.pipeline.3.crop_size=(64, 64)",
    # More than the crop, so that windows slide.
    "val_dataloader.dataset.pipeline.1.scale=(256, 96)",
)
SMALL_COCO = (
    *SMALL,
    "train_cfg.max_epochs=1",
    f"model.neck.in_channels={[WIDTH] * 4}",
    "model.roi_head.bbox_head.fc_out_channels=64",
    "model.train_cfg.rcnn.sampler.num=16",
    "model.train_cfg.rpn_proposal.max_per_img=32",
    "model.test_cfg.rpn.max_per_img=32",
    "model.test_cfg.rcnn.max_per_img=10",
    # Of 81 classes none is likely after two steps, and without detections there is no metric.
    "model.test_cfg.rcnn.score_thr=0.001",
    "train_dataloader.dataset.pipeline.2.scale=(80, 64)",
    "val_dataloader.dataset.pipeline.1.scale=(80, 64)",
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.pt"
    arch = Arch(name="tiny", img_size=64, patch_size=16, width=WIDTH, depth=4, num_heads=2)
    save_checkpoint(path, arch.build(), arch, method="MiCL", provenance={})
    return str(path)


@pytest.fixture(scope="module")
def coco(embedded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded scenes under COCO's own 80 categories: digit d is the one with label 8 * d."""
    from mmdet.datasets import CocoDataset

    source, folder = embedded / "embedded-coco", tmp_path_factory.mktemp("full") / "coco"
    (folder / "annotations").mkdir(parents=True)
    names = CocoDataset.METAINFO["classes"]
    categories = [{"id": i, "name": name} for i, name in zip(COCO_IDS, names, strict=True)]
    for split in ("train2017", "val2017"):
        (folder / split).symlink_to(source / split)
        name = f"annotations/instances_{split}.json"
        content = json.loads((source / name).read_text())
        for annotation in content["annotations"]:
            annotation["category_id"] = COCO_IDS[8 * (annotation["category_id"] - 1)]
        (folder / name).write_text(json.dumps({**content, "categories": categories}))
    return folder


@pytest.fixture
def data(request: pytest.FixtureRequest, embedded: Path) -> dict[Path, Path]:
    """The folder for each config."""
    return {ADE20K: embedded / "embedded-ade20k", COCO: request.getfixturevalue("coco")}


def data_set(config: Config, data: Path) -> Any:
    """The training data set as mmengine's runner builds it, in the config's own default scope."""
    before = DefaultScope._instance_dict.copy()
    try:
        init_default_scope(config.default_scope)
        return DATASETS.build({**config.train_dataloader.dataset, "data_root": str(data)})
    finally:
        DefaultScope._instance_dict = before


def in_channels(config: Config) -> set[int]:
    if config.default_scope == "mmdet":
        return set(config.model.neck.in_channels)
    return {*config.model.decode_head.in_channels, config.model.auxiliary_head.in_channels}


def test_ade20k_is_the_usual_protocol() -> None:
    config = Config.fromfile(ADE20K)
    model, train = config.model, config.train_dataloader
    assert (model.decode_head.type, model.decode_head.num_classes) == ("UPerHead", 150)
    assert (model.auxiliary_head.type, model.auxiliary_head.num_classes) == ("FCNHead", 150)
    assert train.dataset.reduce_zero_label
    assert config.val_dataloader.dataset.reduce_zero_label
    assert config.train_cfg.max_iters == 160_000
    assert config.param_scheduler[-1].end == 160_000
    assert train.batch_size == 16
    assert train.dataset.pipeline[3].crop_size == model.test_cfg.crop_size == (512, 512)
    assert (model.backbone.img_size, model.backbone.drop_path) == (512, 0.1)
    assert config.optim_wrapper.optimizer == {
        "type": "AdamW",
        "lr": 1e-4,
        "betas": (0.9, 0.999),
        "weight_decay": 0.05,
    }


def test_coco_is_the_usual_protocol() -> None:
    config = Config.fromfile(COCO)
    model, train = config.model, config.train_dataloader
    assert model.type == "MaskRCNN"
    assert model.roi_head.bbox_head.num_classes == model.roi_head.mask_head.num_classes == 80
    assert config.train_cfg.max_epochs == 12
    assert config.param_scheduler[-1].milestones == [8, 11]
    assert train.batch_size == 16
    pipelines = train.dataset.pipeline[2], config.val_dataloader.dataset.pipeline[1]
    assert [step.scale for step in pipelines] == [(1333, 800)] * 2
    assert all(step.keep_ratio for step in pipelines)
    assert model.backbone.drop_path == 0.1
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == (1e-4, 0.1)


@pytest.mark.parametrize(
    ("path", "kind", "classes", "images"),
    [(ADE20K, "ADE20KDataset", 150, "img_path"), (COCO, "CocoDataset", 80, "img")],
)
def test_the_data_set_is_the_librarys_own(
    data: dict[Path, Path], path: Path, kind: str, classes: int, images: str
) -> None:
    config = Config.fromfile(path)
    built = data_set(config, data[path])
    folder = data[path] / config.train_dataloader.dataset.data_prefix[images]
    assert (type(built).__name__, len(built.metainfo["classes"])) == (kind, classes)
    assert type(built).__module__.startswith(f"{config.default_scope}.")
    assert len(built) == len(list(folder.iterdir()))


@pytest.mark.parametrize("path", [ADE20K, COCO])
def test_widths_fit_as_the_docstring_says(data: dict[Path, Path], path: Path) -> None:
    assert in_channels(Config.fromfile(path)) == {named_arch("vit_base_patch16_224").width}
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert f"--recipe {path.relative_to(REPOSITORY)} " in docstring
    small = "vit_small_patch16_224"
    (line,) = [line for line in docstring.splitlines() if "--set" in line and "[384" in line]
    overrides = [word for word in shlex.split(line) if word != "--set"]
    resolved = resolve(
        path, checkpoint=f"random:{small}", data=data[path], seed=0, overrides=overrides
    )
    assert in_channels(resolved) == {named_arch(small).width}


@pytest.mark.parametrize("path", [ADE20K, COCO])
def test_a_name_that_would_change_nothing_is_refused(data: dict[Path, Path], path: Path) -> None:
    with pytest.raises(InputError, match="has no 'width'"):
        resolve(path, checkpoint="", data=data[path], seed=0, overrides=["width=384"])


def test_ade20k_runs(embedded: Path, checkpoint: str, tmp_path: Path) -> None:
    outcome = run(
        ADE20K,
        checkpoint=checkpoint,
        data=embedded / "embedded-ade20k",
        work_dir=tmp_path,
        overrides=SMALL_ADE20K,
    )
    assert {"mIoU", "mAcc", "aAcc"} <= outcome.metrics.keys()
    assert (outcome.images, len(outcome.classes)) == (3, 150)
    assert outcome.summary == "2 steps of 2 images"
    arrays = np.load(outcome.predictions)
    # Only the ten first of the 150 are drawn; what was 0 is ignored.
    assert set(np.unique(arrays["truth_NHW"])) <= {*range(10), 255}
    assert arrays["predicted_NHW"].shape == arrays["truth_NHW"].shape
    assert trained_classes(tmp_path / "iter_2.pth", "decode_head.conv_seg.bias") == 150


def test_coco_runs(coco: Path, checkpoint: str, tmp_path: Path) -> None:
    outcome = run(COCO, checkpoint=checkpoint, data=coco, work_dir=tmp_path, overrides=SMALL_COCO)
    assert {"box_AP", "mask_AP"} <= outcome.metrics.keys()
    assert (outcome.images, len(outcome.classes)) == (3, 80)
    assert outcome.summary == "2 steps of 2 images"
    labels = np.load(outcome.predictions)["truth_label_T"]
    assert len(labels)
    assert set(labels.tolist()) <= {8 * digit for digit in range(10)}
    assert trained_classes(tmp_path / "epoch_1.pth", "roi_head.bbox_head.fc_cls.bias") == 80 + 1


def trained_classes(path: Path, bias: str) -> int:
    """Outputs of the head in the model that the run kept; the file is the test's own."""
    return len(torch.load(path, weights_only=False)["state_dict"][bias])

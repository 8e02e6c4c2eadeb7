"""The fingerprint of a segmentation or detection config: what moves the number, nothing else."""

import copy
from typing import Any

import pytest

pytest.importorskip("mmengine")

from micl_bench.openmmlab.settings import what_counts

CONFIG: dict[str, Any] = {
    "default_scope": "mmseg",
    "model": {
        "data_preprocessor": {"mean": [123.675, 116.28, 103.53], "std": [58.4, 57.1, 57.4]},
        "backbone": {"type": "MiCLViT", "checkpoint": "a.pt", "seed": 0, "drop_path": 0.1},
        "decode_head": {"type": "UPerHead", "in_channels": [768, 768], "channels": 512},
    },
    "train_dataloader": {
        "batch_size": 16,
        "num_workers": 2,
        "dataset": {"data_root": "data/ade", "img": ["data/ade/images", "database"]},
    },
    "val_dataloader": {"batch_size": 1, "num_workers": 2},
    "val_evaluator": {"type": "IoUMetric"},
    "optim_wrapper": {"optimizer": {"lr": 1e-4}, "accumulative_counts": 1},
    "auto_scale_lr": {"enable": False, "base_batch_size": 16},
    "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": 100, "val_interval": 100},
    "default_hooks": {"logger": {"interval": 50}, "checkpoint": {"interval": 10}},
    "randomness": {"seed": 0, "deterministic": True},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    *places, name = path.split(".")
    node = config
    for place in places:
        node = node.setdefault(place, {})
    node[name] = value
    assert config != CONFIG
    return config


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.backbone.checkpoint", "b.pt"),
        ("model.backbone.seed", 1),
        ("model.backbone.arch", "vit_small_patch16_224"),
        ("model.backbone.layout", "mae"),
        ("model.backbone.branch", "student"),
        ("model.backbone.activation_checkpointing", True),
        # Of the ViT's width.
        ("model.decode_head.in_channels", [384, 384]),
        ("train_dataloader.num_workers", 8),
        ("train_dataloader.persistent_workers", True),
        ("train_dataloader.batch_size", 4),
        ("optim_wrapper.accumulative_counts", 4),
        ("auto_scale_lr.base_batch_size", 8),
        ("val_dataloader.num_workers", 0),
        # Each image is evaluated on its own.
        ("val_dataloader.batch_size", 2),
        ("val_dataloader.persistent_workers", True),
        ("val_dataloader.pin_memory", True),
        ("val_dataloader.prefetch_factor", 4),
        ("test_dataloader", {"batch_size": 4, "num_workers": 4}),
        ("test_evaluator", {"type": "IoUMetric"}),
        ("test_cfg", {"type": "TestLoop"}),
        ("val_evaluator", [{"type": "IoUMetric", "collect_device": "gpu"}]),
        ("log_level", "DEBUG"),
        ("visualizer", {"type": "Visualizer"}),
        ("launcher", "pytorch"),
        ("resume", True),
        ("default_hooks.timer", {"type": "IterTimerHook"}),
        ("default_hooks.visualization", {"type": "SegVisualizationHook", "draw": True}),
        ("custom_hooks", [{"type": "LoggerHook", "interval": 1}]),
        ("val_evaluator.backend", "faster_coco_eval"),
        ("val_evaluator.outfile_prefix", "work/coco"),
        ("custom_imports.imports", ["micl_bench.openmmlab"]),
        ("train_cfg.val_interval", 10),
        ("default_hooks.logger", {"interval": 1}),
        ("default_hooks.checkpoint", None),
        ("log_processor", {"by_epoch": False}),
        ("custom_hooks", [{"type": "MiCLPrecision"}]),
        ("randomness.seed", 3),
        ("env_cfg", {"cudnn_benchmark": True}),
        ("work_dir", "elsewhere"),
        # A name of the author's own that nothing reads.
        ("crop_size", 512),
    ],
)
def test_who_trains_where_with_how_many_does_not_count(path: str, value: Any) -> None:
    assert what_counts(changed(path, value), "data/ade") == what_counts(CONFIG, "data/ade")


def test_nor_does_the_place_of_the_data() -> None:
    elsewhere = changed(
        "train_dataloader.dataset", {"data_root": "/mnt/x", "img": ["/mnt/x/images", "database"]}
    )
    assert what_counts(elsewhere, "/mnt/x") == what_counts(CONFIG, "data/ade")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.backbone.drop_path", 0.2),
        ("model.backbone.out_blocks", [0, 1]),
        ("model.data_preprocessor.mean", [0.0, 0.0, 0.0]),
        ("model.data_preprocessor.std", [1.0, 1.0, 1.0]),
        ("model.decode_head.channels", 256),
        ("train_cfg.max_iters", 200),
        ("optim_wrapper.optimizer.lr", 1e-3),
        ("custom_hooks", [{"type": "EMAHook"}]),
        ("custom_hooks", [{"type": "LoggerHook"}, {"type": "EMAHook"}]),
        ("val_dataloader.dataset", {"pipeline": [{"type": "Resize"}]}),
        ("val_evaluator", [{"type": "IoUMetric"}, {"type": "OwnMetric"}]),
        ("val_evaluator.ignore_index", 0),
        ("val_cfg", {"type": "ValLoop", "fp16": True}),
        ("optim_wrapper.type", "AmpOptimWrapper"),
        ("default_hooks.param_scheduler", None),
        ("custom_imports.imports", ["micl_bench.openmmlab", "my_losses"]),
        # Below a neck a head's width is a choice.
        ("model.neck", {"type": "FPN", "in_channels": [768], "out_channels": 256}),
    ],
)
def test_a_setting_that_moves_the_number_does(path: str, value: Any) -> None:
    assert what_counts(changed(path, value), "data/ade") != what_counts(CONFIG, "data/ade")


def test_images_evaluated_together_by_a_loop_of_the_authors_own_do() -> None:
    # Images of a batch are padded to the largest, which a ViT sees.
    own = changed("val_cfg", {"type": "OwnLoop"})
    more = copy.deepcopy(own)
    more["val_dataloader"]["batch_size"] = 2
    assert what_counts(more, "data/ade") != what_counts(own, "data/ade")
    more["val_dataloader"].update(batch_size=1, num_workers=0)
    assert what_counts(more, "data/ade") == what_counts(own, "data/ade")

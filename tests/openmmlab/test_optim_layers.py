"""The complete list of learning-rate scales and weight decays, against rules written down here again.

BEiT's and ViTDet's released code: the stem has rate decay**(depth + 1), block i (from 0) has
decay**(depth - i), everything else 1.
"""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS, init_default_scope
from openmmlab.tiny_runs import ADAMW, WIDTH, Linear, Rates, hook_of, tiny, tiny_config, tiny_runner
from small_sets import CONFIGS
from torch import nn

from micl_bench.openmmlab.optim import MiCLViTConstructor, ParameterRow, parameter_table
from micl_bench.runtime.errors import InputError

DEPTHS = {"vit_base_patch16": 12, "vit_large_patch16": 24}
STEM = re.compile(r"vit\.(patch_embed|pos_embed|cls_token|reg_token)\b")


def built(library: str, checkpoint: str) -> nn.Module:
    """UperNet of mmseg with auxiliary head, or Mask R-CNN of mmdet with ViTDet's pyramid."""
    model = Config.fromfile(CONFIGS["ade20k" if library == "mmseg" else "coco"]).model
    model.backbone.checkpoint = checkpoint
    if library == "mmseg":
        model.decode_head.in_channels, model.auxiliary_head.in_channels = [WIDTH] * 4, WIDTH
    else:
        model.backbone.update(strides=(16,), final_norm=False, prefix_tokens=False)
        model.neck = {"type": "SimpleFeaturePyramid", "in_channels": WIDTH, "out_channels": 32}
    init_default_scope(library)
    return MODELS.build(model)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """ViTs of the true depths, narrow."""
    folder = tmp_path_factory.mktemp("depths")
    return {name: tiny(folder / f"{name}.pt", depth=depth) for name, depth in DEPTHS.items()}


def expected_row(name: str, shape: torch.Size, depth: int, rate: float) -> ParameterRow:
    above = 0
    if "backbone." in name:
        if block := re.search(r"vit\.blocks\.(\d+)\.", name):
            above = depth - int(block[1])
        elif STEM.search(name):
            above = depth + 1
    free = len(shape) < 2 or name.endswith(("pos_embed", "cls_token", "reg_token"))
    return ParameterRow(name, rate**above, 0.0 if free else 0.05)


@pytest.mark.parametrize("library", ["mmseg", "mmdet"])
@pytest.mark.parametrize("arch", DEPTHS)
def test_every_parameter_of_a_whole_model(
    checkpoints: dict[str, str], arch: str, library: str
) -> None:
    model = built(library, checkpoints[arch])
    table = parameter_table(model, layer_decay=0.65, weight_decay=0.05)
    assert table == [
        expected_row(name, parameter.shape, DEPTHS[arch], 0.65)
        for name, parameter in model.named_parameters()
    ]
    # The rule above has met every kind of parameter.
    scales = {scale for _, scale, _ in table}
    assert scales == {0.65**above for above in range(DEPTHS[arch] + 2)}
    prefix_tokens = sum(name.endswith("cls_token") for name, _, _ in table)
    assert prefix_tokens == (1 if library == "mmseg" else 0)
    assert sum("backbone." not in name for name, _, _ in table) > 20


@pytest.mark.parametrize("library", ["mmseg", "mmdet"])
def test_the_optimiser_has_what_the_table_says(checkpoints: dict[str, str], library: str) -> None:
    model = built(library, checkpoints["vit_base_patch16"])
    settings = {"layer_decay": 0.65, "backbone_lr_mult": 0.5}
    wrapper = MiCLViTConstructor({"optimizer": ADAMW}, settings)(model)
    rows = {row.name: row for row in parameter_table(model, weight_decay=0.05, **settings)}
    names = {parameter: name for name, parameter in model.named_parameters()}
    seen = []
    for group in wrapper.optimizer.param_groups:
        for parameter in group["params"]:
            row = rows[names[parameter]]
            assert (group["lr"], group["weight_decay"]) == (1e-2 * row.lr_scale, row.weight_decay)
            assert group["name"] == (
                f"learning rate x {row.lr_scale:.6g}, weight decay {row.weight_decay:g}"
            )
            seen.append(parameter)
    assert len(seen) == len(set(seen)) == len(names)
    # Stem, blocks and heads with and without decay; the final norm, where there is one, without.
    assert len(wrapper.optimizer.param_groups) == 2 * (12 + 2) + (library == "mmseg")


def test_backbone_multiple_is_for_the_vit_alone(checkpoints: dict[str, str]) -> None:
    model = built("mmseg", checkpoints["vit_base_patch16"])
    for name, scale, _ in parameter_table(model, backbone_lr_mult=0.25, weight_decay=0.05):
        assert scale == (0.25 if name.startswith("backbone.vit.") else 1.0), name
    assert any(name.startswith("backbone.rescale.") for name, _ in model.named_parameters())


@pytest.mark.parametrize("kind", ["BEiT", "MAE"])
def test_mmsegs_constructor_has_the_same_rates_where_it_knows_the_class(
    checkpoints: dict[str, str], kind: str
) -> None:
    model = nn.Module()
    model.backbone = MODELS.build(
        {
            "type": f"mmseg.{kind}",
            "img_size": 32,
            "embed_dims": WIDTH,
            "num_heads": 1,
            "num_layers": 12,
        }
    )
    model.decode_head = nn.Conv2d(WIDTH, 2, 1)
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.get("mmseg.LearningRateDecayOptimizerConstructor")
    theirs = constructor({"optimizer": ADAMW}, {"num_layers": 12, "decay_rate": 0.65})
    ours = parameter_table(
        built("mmseg", checkpoints["vit_base_patch16"]), layer_decay=0.65, weight_decay=0.05
    )
    found: dict[str, set[float]] = {}
    for group in theirs(model).optimizer.param_groups:
        for name in group["param_names"]:
            found.setdefault(_part(name.replace(".layers.", ".blocks.")), set()).add(group["lr"])
    expected: dict[str, set[float]] = {}
    for name, scale, _ in ours:
        expected.setdefault(_part(name.replace(".vit.", ".")), set()).add(1e-2 * scale)
    assert len(found) == 12 + 2
    assert found == expected


def _part(name: str) -> str:
    """`blocks.3`, `stem` or `rest`."""
    if block := re.match(r"backbone\.(blocks\.\d+)\.", name):
        return block[1]
    return "stem" if re.match(r"backbone\.(patch_embed|pos_embed|cls_token)", name) else "rest"


def toy(checkpoint: str) -> Linear:
    return Linear({"type": "MiCLViT", "checkpoint": checkpoint, "strides": [16]})


def test_any_place_in_any_wrapper(checkpoints: dict[str, str], tmp_path: Path) -> None:
    model = toy(checkpoints["vit_base_patch16"])
    plain = parameter_table(model, layer_decay=0.7, weight_decay=0.1)
    assert {n: s for n, s, _ in plain}["encoder.deep.vit.pos_embed"] == 0.7**13
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        wrapped = MMDistributedDataParallel(model)
        assert parameter_table(wrapped, layer_decay=0.7, weight_decay=0.1) == plain
        groups = MiCLViTConstructor({"optimizer": ADAMW})(wrapped).optimizer.param_groups
        assert {id(p) for group in groups for p in group["params"]} == set(
            map(id, model.parameters())
        )
        # A backbone that is wrapped by itself, as mmengine's separate wrapper does.
        model.encoder["deep"] = MMDistributedDataParallel(model.encoder["deep"])
        inner = parameter_table(model, layer_decay=0.7, weight_decay=0.1)
    finally:
        torch.distributed.destroy_process_group()
    assert [row._replace(name=row.name.replace(".module.", ".")) for row in inner] == plain
    alone = parameter_table(wrapped.module.encoder["deep"].module, weight_decay=0.1)
    assert len(alone) == len(plain) - 2


def test_a_block_compiled_keeps_its_layer(checkpoints: dict[str, str]) -> None:
    model = toy(checkpoints["vit_base_patch16"])
    expected = [row[1:] for row in parameter_table(model, layer_decay=0.7, weight_decay=0.1)]
    model.encoder["deep"] = torch.compile(model.encoder["deep"], backend="eager")
    found = [row[1:] for row in parameter_table(model, layer_decay=0.7, weight_decay=0.1)]
    assert found == expected


def test_shared_and_frozen_parameters(checkpoints: dict[str, str]) -> None:
    model = toy(checkpoints["vit_base_patch16"])
    model.tied = nn.Linear(WIDTH, 2)
    model.tied.weight = model.head.weight
    model.same_block = model.encoder["deep"].vit.blocks[3]
    model.encoder["deep"].vit.blocks[0].requires_grad_(False)
    rows = parameter_table(model, layer_decay=0.5, weight_decay=0.1)
    groups = MiCLViTConstructor({"optimizer": ADAMW}, {"layer_decay": 0.5})(
        model
    ).optimizer.param_groups
    parameters = [parameter for group in groups for parameter in group["params"]]
    trainable = {id(p) for p in model.parameters() if p.requires_grad}
    assert len(parameters) == len(rows) == len(trainable)
    assert {id(parameter) for parameter in parameters} == trainable
    scales = {name: scale for name, scale, _ in rows}
    assert scales["encoder.deep.vit.blocks.3.mlp.fc1.weight"] == 0.5**9
    assert not any("blocks.0." in name or name.startswith("same_block") for name in scales)
    assert "tied.weight" not in scales
    assert "tied.bias" in scales


def test_schedules_keep_the_ratios(checkpoints: dict[str, str], tmp_path: Path) -> None:
    config = tiny_config(tmp_path, checkpoints["vit_base_patch16"], steps=9)
    config.optim_wrapper.update(
        constructor="MiCLViTConstructor", paramwise_cfg={"layer_decay": 0.65}
    )
    config.param_scheduler = [
        {"type": "LinearLR", "start_factor": 0.01, "by_epoch": False, "begin": 0, "end": 3},
        {"type": "PolyLR", "power": 1.0, "eta_min": 0.0, "by_epoch": False, "begin": 3, "end": 9},
    ]
    config.custom_hooks = [{"type": "Rates"}]
    runner = tiny_runner(config)
    runner.train()
    rates = torch.tensor(hook_of(runner, Rates).rates, dtype=torch.float64)
    # Warm-up, then a straight line to 0; in every group the same share of its own rate, with decay
    # and without, the heads first.
    ramp = torch.tensor([0.01, 0.505, 1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0], dtype=torch.float64)
    scales = torch.tensor([0.65 ** (group // 2) for group in range(2 * 14)], dtype=torch.float64)
    torch.testing.assert_close(rates, 1e-2 * ramp[:, None] * scales)
    # What logs call the rate is that of the heads.
    logged, _ = runner.message_hub.get_scalar("train/lr").data
    torch.testing.assert_close(torch.from_numpy(logged), 1e-2 * ramp, check_dtype=False)


@pytest.mark.parametrize(
    ("paramwise", "message"),
    [
        (
            {"decay_rate": 0.65, "num_layers": 12},
            "decay_rate, num_layers; MiCLViTConstructor knows",
        ),
        ({"custom_keys": {"backbone": {"lr_mult": 0.1}}}, "paramwise_cfg has custom_keys"),
        ({"norm_decay_mult": 0.0}, "paramwise_cfg has norm_decay_mult"),
        ({"layer_decay": 0.0}, "layer_decay is 0.0; needed: above 0 and at most 1"),
        ({"layer_decay": 1.5}, "layer_decay is 1.5"),
        ({"layer_decay": float("nan")}, "layer_decay is nan"),
        ({"layer_decay": "0.65"}, "layer_decay is '0.65'"),
        ({"layer_decay": True}, "layer_decay is True"),
        ({"backbone_lr_mult": 0}, "backbone_lr_mult is 0"),
        ({"backbone_lr_mult": float("inf")}, "backbone_lr_mult is inf"),
    ],
)
def test_settings_that_would_do_nothing_or_harm_are_refused(
    paramwise: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        MiCLViTConstructor({"optimizer": ADAMW}, paramwise)(Linear())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["lr", "weight_decay"])
def test_an_optimiser_names_rate_and_decay(missing: str) -> None:
    optimizer = {key: value for key, value in ADAMW.items() if key != missing}
    with pytest.raises(InputError, match=f"optimizer has no {missing}"):
        MiCLViTConstructor({"optimizer": optimizer})


def test_a_model_without_a_micl_vit_is_refused() -> None:
    with pytest.raises(InputError, match="Linear has no MiCLViT"):
        MiCLViTConstructor({"optimizer": ADAMW}, {"layer_decay": 0.65})(Linear())

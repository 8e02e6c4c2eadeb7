"""Every format: recognised by one, every tensor accounted for, branches, refusals."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from layouts import LAYOUTS, SMALL, mae_encoder, random_state, small_vit
from layouts_foreign import FOREIGN
from layouts_parts import GRID
from torch import Tensor

from micl_bench.backbone import PositionRule
from micl_bench.checkpoints import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from micl_bench.checkpoints._read_file import recognised_as
from micl_bench.records.weights import CheckpointInfo
from micl_bench.runtime import plugins
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.safe_reading.read import read_safely

ALL = LAYOUTS | FOREIGN


@pytest.mark.parametrize("name", ALL)
def test_each_file_is_claimed_by_its_format_alone(files: dict[str, Path], name: str) -> None:
    assert recognised_as(read_safely(files[name])) == [name.partition("-")[0]]


def _tensors(content: Any, name: str = "") -> list[tuple[str, str]]:
    """(entry of the file, name in its table) of every tensor in it."""
    found = []
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        top = name or str(key)
        if isinstance(value, Tensor):
            found.append((top, str(key)))
        elif isinstance(value, (dict, list)):
            found += [(top, inner) for _, inner in _tensors(value, top)]
    return found


@pytest.mark.parametrize("name", ALL)
def test_every_tensor_has_one_fate(files: dict[str, Path], name: str) -> None:
    content = read_safely(files[name])
    loaded = load_checkpoint(files[name])
    fates = {fate.name: fate for fate in loaded.content.fates}
    assert len(fates) == len(loaded.content.fates)
    assert all(tensor in fates or entry in fates for entry, tensor in _tensors(content))
    for fate in fates.values():
        assert (fate.kind == "left out") == (not fate.target)
        assert fate.reason or fate.kind != "left out"
    targets = {part for fate in fates.values() for part in fate.target.split(", ") if fate.target}
    assert targets == loaded.content.state.keys()


def _network(content: dict[str, Any], branch: str = "") -> dict[str, Any]:
    for key in (branch, "state_dict", "model", "teacher"):
        if isinstance(content.get(key), dict):
            content[key] = dict(content[key])
            return content[key]
    return content


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("change", ["surplus", "missing"])
def test_a_surplus_and_a_missing_tensor_are_refused_by_name(
    files: dict[str, Path], name: str, change: str
) -> None:
    content = dict(read_safely(files[name]))
    module = plugins.find("checkpoints", name.partition("-")[0])
    whole = module.convert(content, arch=None, branch=None)
    network = _network(content, whole.branch)
    if change == "surplus":
        network["blocks.0.surprise.weight"] = torch.zeros(1)
        named = r"blocks\.0\.surprise\.weight"
    else:
        (fate,) = (one for one in whole.fates if one.target == "blocks.1.mlp.fc2.bias")
        del network[fate.name]
        named = r"missing blocks\.1\.mlp\.fc2\.bias"
    info = CheckpointInfo(source="x", format=name, digest="")
    with pytest.raises(InputError, match=named):
        Checkpoint.verified(info, module.convert(content, arch=None, branch=None))


@pytest.mark.parametrize("name", ["timm", "mae-published"])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8, torch.bool])
def test_weights_of_other_kinds_of_number_are_refused_by_name(
    files: dict[str, Path], tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    content, layout = read_safely(files[name]), name.partition("-")[0]
    network = _network(content)
    network["blocks.1.mlp.fc1.weight"] = network["blocks.1.mlp.fc1.weight"].to(dtype)
    torch.save(content, tmp_path / "odd.pth")
    stored = str(dtype).removeprefix("torch.")
    with pytest.raises(InputError, match=rf"blocks\.1\.mlp\.fc1\.weight holds {stored}; "):
        load_checkpoint(tmp_path / "odd.pth", layout=layout)


@pytest.mark.parametrize(
    "name",
    [
        "dinov2",
        "dino-teacher",
        "beit",
        "simmim",
        "openmmlab",
        "micl_bench",
        "micl",
        "mae-published",
    ],
)
def test_a_file_with_one_network_has_no_branches(files: dict[str, Path], name: str) -> None:
    with pytest.raises(InputError, match="no branch 'student'; it holds one network"):
        load_checkpoint(files[name], branch="student")


@pytest.mark.parametrize(
    ("name", "branches"),
    [
        ("dino", ["teacher", "student"]),
        ("ibot", ["teacher", "student"]),
        ("moco_v3", ["base", "momentum"]),
        ("msn", ["target_encoder", "encoder"]),
        ("ijepa", ["target_encoder", "encoder"]),
        ("lightly", ["backbone", "student_backbone"]),
        ("solo_learn", ["backbone", "momentum_backbone"]),
        ("dinov2-teacher", ["teacher"]),
    ],
)
def test_branches_differ_and_the_first_is_the_default(
    files: dict[str, Path], name: str, branches: list[str]
) -> None:
    default = load_checkpoint(files[name]).content
    assert default.branch == branches[0]
    weights = []
    for branch in branches:
        converted = load_checkpoint(files[name], branch=branch).content
        assert converted.branch == branch
        weights.append(converted.state["blocks.1.mlp.fc1.weight"])
    assert torch.equal(default.state["blocks.1.mlp.fc1.weight"], weights[0])
    assert len(weights) == 1 or not torch.equal(*weights)
    with pytest.raises(InputError, match=f"no branch 'nothing'.*{branches[-1]}"):
        load_checkpoint(files[name], branch="nothing")


@pytest.mark.parametrize(
    ("name", "method", "pool", "positions"),
    [
        ("dino", "DINO", "token", "bicubic, not antialiased, offset 0.1"),
        ("ibot", "iBOT", "token", "bicubic, not antialiased, offset 0.1"),
        ("moco_v3", "MoCo v3", "token", "sin-cos computed anew"),
        ("msn", "MSN", "token", "bicubic, not antialiased"),
        ("ijepa", "I-JEPA", "avg", "bicubic, not antialiased"),
        ("dinov2", "DINOv2", "token", "bicubic, not antialiased, offset 0.1"),
        ("dinov2-registers", "DINOv2 with registers", "token", "bicubic, antialiased"),
        ("dinov3", "DINOv3", "token", None),
        ("simmim", "SimMIM", "avg", None),
        ("beit", "BEiT", "avg", None),
        ("beit-data2vec", "data2vec", "avg", None),
        ("beit-v2", "BEiT v2", "avg", None),
        ("huggingface-vit_mae", "MAE", "token", "bicubic, not antialiased"),
        ("huggingface-dinov2_registers", "DINOv2 with registers", "token", "bicubic, antialiased"),
        ("openmmlab-avg", "mae-finetuned", "avg", "bicubic, not antialiased"),
        ("lightly-alone", "backbone", "token", "bicubic, antialiased"),
        ("solo_learn", "SimCLR", "token", "bicubic, antialiased"),
    ],
)
def test_what_a_checkpoint_says_of_its_method(
    files: dict[str, Path], name: str, method: str, pool: str, positions: str | None
) -> None:
    loaded = load_checkpoint(files[name])
    assert (loaded.method, loaded.content.pool) == (method, pool)
    if positions is not None:
        assert str(loaded.content.positions) == positions


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("dino", 0.485),
        ("beit", 0.5),
        ("beit-fine_tuned", 0.5),
        ("beit-data2vec", 0.485),
        ("beit-v2", 0.485),
        ("simmim-fine_tuned", 0.485),
        ("huggingface-vit", 0.5),
        ("huggingface-vit_mae", 0.485),
        ("openmmlab", 0.5),
        ("openmmlab-avg", 0.485),
    ],
)
def test_pixels_are_those_of_the_method(files: dict[str, Path], name: str, mean: float) -> None:
    assert load_checkpoint(files[name]).content.mean[0] == pytest.approx(mean, abs=1e-6)


def test_sizes_come_from_the_shapes(files: dict[str, Path]) -> None:
    for name in ("dino", "ijepa", "beit"):
        arch = load_checkpoint(files[name]).arch
        assert (arch.width, arch.depth, arch.num_heads) == (128, 2, 2)
        assert (arch.img_size, arch.patch_size) == (GRID * 8, 8)
    assert load_checkpoint(files["moco_v3-small"]).arch.num_heads == 12
    # The folder's configuration states the heads, which shapes do not show.
    found = load_checkpoint(files["huggingface-vit"]).arch
    assert (found.num_heads, found.norm_eps) == (4, 1e-12)


def test_a_file_that_fits_two_formats_asks_for_one(files: dict[str, Path], tmp_path: Path) -> None:
    content = read_safely(files["micl_bench"]) | read_safely(files["micl"]) | {"num_classes": 0}
    path = tmp_path / "both.pth"
    torch.save({**content, "model": mae_encoder()}, path)
    with pytest.raises(
        InputError, match=r"several formats: micl, micl_bench; choose with --format"
    ):
        load_checkpoint(path)
    assert load_checkpoint(path, layout="micl_bench").info.format == "micl_bench"
    for layout in ("micl", "timm"):
        with pytest.raises(InputError, match=f"of the layout micl_bench, not of {layout}"):
            load_checkpoint(path, layout=layout)


@pytest.mark.parametrize("layout", sorted({name.partition("-")[0] for name in FOREIGN}))
def test_a_format_that_does_not_fit_is_refused_in_a_line(
    files: dict[str, Path], layout: str
) -> None:
    fits = {"dino": {"ibot"}, "ibot": {"dino"}}.get(layout, set())
    convert = plugins.find("checkpoints", layout).convert
    for other in {name for name in FOREIGN if "-" not in name} - {layout, "dinov3"} - fits:
        with pytest.raises(InputError):
            convert(read_safely(files[other]), arch=None, branch=None)


@pytest.mark.parametrize(
    "change",
    [
        {"pos_embed": torch.tensor(1.0)},
        {"pos_embed": None},
        {"patch_embed.proj.weight": torch.zeros(3, 3)},
        {"blocks.0.mlp.fc1.weight": torch.zeros(0)},
        {"blocks.x.norm1.weight": torch.zeros(128)},
        {"blocks.1000000000.norm1.weight": torch.zeros(128)},
        {3: torch.zeros(128)},
    ],
)
def test_misshapen_files_are_bad_input_not_a_defect(change: dict[Any, Any], tmp_path: Path) -> None:
    for content in ({**mae_encoder(), **change}, {"model": {**mae_encoder(), **change}}):
        torch.save(content, tmp_path / "x.pth")
        for layout in (None, "mae", "timm"):
            with pytest.raises(InputError):
                load_checkpoint(tmp_path / "x.pth", layout=layout)


@pytest.mark.parametrize("name", ["timm", "timm-registers", "mae-fine-tuned"])
@pytest.mark.parametrize("pool", ["token", "avg"])
def test_a_new_head_leaves_the_checkpoint_as_it_was(
    files: dict[str, Path], name: str, pool: Any
) -> None:
    loaded = load_checkpoint(files[name])
    before = {key: value.clone() for key, value in loaded.content.state.items()}
    model = loaded.with_new_head(num_classes=3, img_size=48, drop_path=0.1, pool=pool, seed=0)
    assert model(torch.randn(2, 3, 48, 48)).shape == (2, 3)
    assert [block.drop_path1.drop_prob for block in model.blocks[1:]] == [pytest.approx(0.1)]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[key]) for key, value in loaded.content.state.items())


def test_what_training_began_with_is_kept_for_what_comes_of_it(tmp_path: Path) -> None:
    path = tmp_path / "timm.pth"
    torch.save(random_state(small_vit()), path)
    content = load_checkpoint(path).content
    rule = PositionRule(antialias=False, offset=0.1)
    start = dataclasses.replace(
        load_checkpoint(path),
        content=dataclasses.replace(content, positions=rule, mean=(0.5,) * 3, std=(0.25,) * 3),
    )
    target = tmp_path / "tuned.pt"
    save_checkpoint(target, start.backbone(), SMALL, method="x", provenance={}, start=start)
    after = load_checkpoint(target).content
    assert (after.positions, after.mean, after.std) == (rule, (0.5,) * 3, (0.25,) * 3)

"""Converted checkpoints: the same bits in other layouts, descriptions that are checked, OpenMMLab."""

import dataclasses
import importlib
import json
import re
from pathlib import Path

import pytest
import torch
from layouts import LAYOUTS, SMALL, random_state, small_vit
from support import Run
from torch import Tensor

from micl_bench.backbone import Arch
from micl_bench.checkpoints import (
    Checkpoint,
    export,
    load_backbone,
    load_checkpoint,
    load_classifier,
    save_checkpoint,
)
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file, mark_as_written, to_disk
from micl_bench.runtime.safe_reading.read import read_safely


@pytest.fixture
def images_NCHW() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def beit(tmp_path: Path) -> Path:
    """BEiT's relative positions in each block and layer scale, in our own layout."""
    arch = Arch(
        name="beit_tiny",
        img_size=32,
        patch_size=8,
        width=128,
        depth=2,
        num_heads=2,
        layer_scale=True,
        absolute_positions=False,
        relative_positions="block",
    )
    model = arch.build_any()
    model.load_state_dict(random_state(model))
    path = tmp_path / "beit.pt"
    save_checkpoint(path, model, arch, method="BEiT", provenance={})
    return path


@pytest.mark.long
@pytest.mark.parametrize("layout", ["timm", "safetensors", "openmmlab"])
@pytest.mark.parametrize("name", ["micl_bench", "mae-decoder", "beit"])
def test_converted_and_read_again_it_gives_the_same_bits(
    layout: str, name: str, beit: Path, images_NCHW: Tensor, tmp_path: Path
) -> None:
    source = beit if name == "beit" else LAYOUTS[name](tmp_path)
    target = tmp_path / ("new.safetensors" if layout == "safetensors" else "new.pth")
    export(load_checkpoint(source), layout, target)
    loaded, before = load_checkpoint(target), load_checkpoint(source)
    assert loaded.info.format == ("openmmlab" if layout == "openmmlab" else "timm")
    assert torch.equal(
        loaded.backbone().forward_features(images_NCHW),
        load_backbone(source).forward_features(images_NCHW),
    )
    # All the rest comes back too: the method, how positions are resampled, but for OpenMMLab the head.
    assert loaded.content.positions == before.content.positions
    assert (loaded.method, loaded.arch) == (before.method, before.arch)
    larger = torch.randn(1, 3, 48, 48)
    one, other = (x.backbone(img_size=48).forward_features(larger) for x in (loaded, before))
    assert torch.equal(one, other)
    if before.content.num_classes and layout != "openmmlab":
        assert torch.equal(
            load_classifier(target)(images_NCHW), load_classifier(source)(images_NCHW)
        )


@pytest.mark.parametrize("layout", ["micl-bench", "timm", "openmmlab", "safetensors"])
def test_equal_weights_are_equal_bytes(tmp_path: Path, beit: Path, layout: str) -> None:
    def write(path: Path) -> bytes:
        start = load_checkpoint(str(beit))
        if layout == "micl-bench":
            digest = save_checkpoint(
                path, start.backbone(), start.arch, method="x", provenance={}, start=start
            )
            assert digest == digest_file(path)
        else:
            export(start, layout, path)
        return path.read_bytes()

    suffix = ".safetensors" if layout == "safetensors" else ".pth"
    written = {write(tmp_path / f"{name}{suffix}") for name in ("one", "two", "a longer name")}
    assert len(written) == 1


@pytest.mark.parametrize("layout", ["timm", "safetensors"])
def test_a_converted_file_is_its_own_until_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """While it is written, it is one temporary file that a sweep leaves alone; then all may read it."""
    names: list[str] = []

    def note(path: Path) -> None:
        names.extend(one.name for one in tmp_path.iterdir())
        with path.open("rb") as handle:
            assert not mark_as_written(handle.fileno())
        to_disk(path)

    monkeypatch.setattr("micl_bench.runtime.files.to_disk", note)
    path = tmp_path / "one.safetensors"
    export(load_checkpoint("random:vit_demo_patch4_32"), layout, path)
    (name,) = names
    assert name.endswith(".micl-bench.tmp")
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_converted_file_needs_no_architecture_for_its_heads(tmp_path: Path) -> None:
    target = tmp_path / "demo.safetensors"
    export(load_checkpoint("random:vit_demo_patch4_32"), "safetensors", target)
    assert load_checkpoint(target).arch.num_heads == 4


def test_convert_as_a_command_never_overwrites(micl_bench: Run, tmp_path: Path) -> None:
    path, target = LAYOUTS["micl"](tmp_path), tmp_path / "out" / "micl.safetensors"
    done = micl_bench("convert", path, "--to", "safetensors", "--out", target)
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(target).method == "MiCL"
    before = digest_file(target)
    # Killed after it was written, or called twice, it is what was asked for.
    again = micl_bench("convert", path, "--to", "safetensors", "--out", target)
    assert (again.returncode, digest_file(target)) == (0, before)
    other = ("convert", "random:vit_demo_patch4_32", "--to", "safetensors", "--out")
    for there, words in ((target, "exists with another content"), (tmp_path, "is no file")):
        refused = micl_bench(*other, there)
        assert refused.returncode == 2
        assert words in refused.stderr
    assert digest_file(target) == before
    assert [file.name for file in target.parent.iterdir()] == [target.name]
    wrong = micl_bench("convert", path, "--to", "safetensors", "--out", tmp_path / "x.pth")
    assert wrong.returncode == 2
    assert "must end in .safetensors" in wrong.stderr


def test_a_damaged_description_is_refused(tmp_path: Path) -> None:
    arch = dataclasses.asdict(SMALL)
    good: dict[str, object]
    good = {"micl_bench": 1, "method": "x", "pool": "token", "num_classes": 0, "provenance": {}}
    assert _read_with_about(tmp_path, {**good, "arch": arch}).method == "x"
    for about in ("{", "[]", 3, '{"micl_bench": 1}', {**good, "arch": {**arch, "heads": 3}}):
        with pytest.raises(InputError, match=r"damaged|version"):
            _read_with_about(tmp_path, about)
    for field, value in (
        ("width", "128"),
        ("patch_size", 0),
        ("depth", 10**9),
        ("norm_eps", 2.0),
        ("relative_positions", "x"),
        ("class_token", 1),
    ):
        with pytest.raises(InputError, match=rf"damaged: .*{field}"):
            _read_with_about(tmp_path, {**good, "arch": {**arch, field: value}})
    for field, value, words in (
        ("mean", [0.5], "mean"),
        ("mean", "abc", "mean"),
        ("mean", [0.5, 0.5, float("nan")], "mean"),
        ("std", [0.5, 0.5, 0], "std"),
        ("std", [0.5, 0.5, "x"], "std"),
        ("positions", {"offset": "x"}, "offset"),
        ("positions", {"offset": float("inf")}, "offset"),
        ("positions", {"kind": "zzz"}, "kind"),
        ("positions", {"antialias": 1}, "antialias"),
        ("positions", {"x": 1}, "x"),
        ("num_classes", 3, "num_classes 3, but a head of 0"),
    ):
        # What JSON does not know is refused before any field is looked at.
        is_json = not re.search(r"\b(nan|inf)\b", repr(value))
        with pytest.raises(
            InputError, match=f"damaged: .*{words if is_json else 'not valid JSON'}"
        ):
            _read_with_about(tmp_path, {**good, "arch": arch, field: value})
        own = {**good, "arch": arch, field: value, "model": random_state(small_vit())}
        torch.save(own, tmp_path / "own.pt")
        with pytest.raises(InputError, match=rf"damaged: .*{words}"):
            load_checkpoint(tmp_path / "own.pt")
    with pytest.raises(InputError, match="no plain ViT is called 'hf-hub:who/knows'"):
        _read_with_about(tmp_path, {**good, "arch": {**arch, "timm_name": "hf-hub:who/knows"}})


def _read_with_about(tmp_path: Path, about: object) -> Checkpoint:
    path, text = tmp_path / "x.pth", json.dumps(about) if isinstance(about, dict) else about
    torch.save({"state_dict": random_state(small_vit()), "micl_bench_about": text}, path)
    return load_checkpoint(path)


def _state_for_mmseg(path: Path) -> dict[str, Tensor]:
    state = read_safely(path)["state_dict"]
    return {name.removeprefix("backbone."): value for name, value in state.items()}


def test_mmsegmentation_loads_all_of_it_and_gives_the_same_features(
    beit: Path, images_NCHW: Tensor, tmp_path: Path
) -> None:
    pytest.importorskip("mmseg")
    # It stands in for mmcv's operators.
    importlib.import_module("micl_bench.openmmlab")
    from mmseg.models.backbones import BEiT, VisionTransformer

    common = {
        "img_size": 32, "patch_size": 8, "embed_dims": 128, "num_layers": 2, "num_heads": 2,
        "final_norm": True, "norm_cfg": {"type": "LN", "eps": 1e-6},
    }  # fmt: skip
    for source, model in (
        (LAYOUTS["micl_bench"](tmp_path), VisionTransformer(patch_bias=True, **common)),
        (beit, BEiT(**common)),
    ):
        target = tmp_path / f"{source.stem}-mmseg.pth"
        note = export(load_checkpoint(source), "openmmlab", target)
        assert type(model).__name__ in note
        model.load_state_dict(_state_for_mmseg(target), strict=True)
        model.eval()
        with torch.no_grad():
            (map_NDhw,) = model(images_NCHW)
            tokens_NTD = load_backbone(source).forward_features(images_NCHW)
        torch.testing.assert_close(
            map_NDhw.flatten(2).transpose(1, 2), tokens_NTD[:, 1:], atol=1e-5, rtol=0
        )


def test_what_mmsegmentation_has_no_place_for_is_refused(tmp_path: Path) -> None:
    path = LAYOUTS["timm-registers"](tmp_path)
    with pytest.raises(InputError, match="mmsegmentation has no backbone for"):
        export(load_checkpoint(path), "openmmlab", tmp_path / "new.pth")
    assert SMALL.is_plain


def test_openmmlab_gets_all_that_no_tensor_shows(micl_bench: Run, tmp_path: Path) -> None:
    arch = dataclasses.replace(SMALL, num_heads=4, norm_eps=1e-12)
    model = arch.build_any(num_classes=5)
    model.load_state_dict(random_state(model))
    provenance = {"classes": list("abcde"), "classifier": "linear probe"}
    source, target = tmp_path / "own.pt", tmp_path / "mm.pth"
    save_checkpoint(source, model, arch, method="X", provenance=provenance)
    content = torch.load(source, weights_only=True) | {
        "positions": {"kind": "bicubic", "antialias": False, "offset": 0.1},
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
    }
    torch.save(content, source)
    done = micl_bench("convert", source, "--to", "openmmlab", "--out", target)
    assert done.returncode == 0, done.stderr
    assert "head of 5 classes left out" in done.stdout
    before, after = load_checkpoint(source), load_checkpoint(target)
    assert after.info.format == "openmmlab"
    assert (after.arch, after.method) == (arch, "X")
    for field in ("positions", "mean", "std", "pool"):
        assert getattr(after.content, field) == getattr(before.content, field)
    assert (after.content.num_classes, after.classes, after.content.guesses) == (0, (), ())
    larger_NCHW = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        one, other = (
            x.backbone(img_size=64).forward_features(larger_NCHW) for x in (before, after)
        )
    assert torch.equal(one, other)
    damaged = torch.load(target, weights_only=True)
    damaged["meta"]["micl_bench_about"] = "{"
    torch.save(damaged, target)
    with pytest.raises(InputError, match="damaged"):
        load_checkpoint(target)

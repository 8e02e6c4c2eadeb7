"""`micl-bench inspect` and `convert`, as a user runs them."""

import dataclasses
import importlib
import json
import re
import subprocess
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


def test_inspect_prints_all_that_an_evaluation_would_use(micl_bench: Run, tmp_path: Path) -> None:
    path = LAYOUTS["mae-decoder"](tmp_path)
    done = micl_bench("inspect", path, "--json", tmp_path / "about.json", "--mapping")
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[:12])
    parameters = sum(value.numel() for value in small_vit().state_dict().values())
    assert lines == {
        "format": "mae",
        "method": "MAE",
        "branch": "the only one",
        "architecture": "vit_w128_d2_patch8_32: width 128, depth 2, 2 heads, patch 8, MLP x 4, [CLS], "
        "norm eps 1e-06",
        "parameters": f"{parameters / 1e6:.2f} M",
        "input": "32 x 32 px, 4 x 4 patches",
        "positions": "at other sizes: bicubic, not antialiased",
        "pixels": "mean 0.485 0.456 0.406, std 0.229 0.224 0.225",
        "head": "none",
        "tensors": "30 used, 21 left out",
        "sha256": digest_file(path),
        "assumed": "2 heads (width / 64) (--arch heads=N)",
    }
    rows = done.stdout.splitlines()[12:]
    assert len(rows) == 51
    assert "decoder_norm.bias" in done.stdout
    assert " ".join(rows[-1].split()) == "optimizer left out state of training, 3 tensors"
    about = json.loads((tmp_path / "about.json").read_text())
    assert about["mapping"][0] == {
        "name": "cls_token", "kind": "used", "target": "cls_token", "reason": "",
    }  # fmt: skip
    assert {row["name"] for row in about["mapping"][:-1]} == set(read_safely(path)["model"])


def test_inspect_refuses_what_an_evaluation_would_refuse(micl_bench: Run, tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    done = micl_bench("inspect", path)
    assert done.returncode == 2
    assert "no known checkpoint layout" in done.stderr
    assert "its keys begin with conv1.weight" in done.stderr
    assert done.stderr.count("\n") == 1


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


def test_openmmlab_gets_all_that_no_tensor_tells(micl_bench: Run, tmp_path: Path) -> None:
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


def test_what_the_file_does_not_tell_is_marked(micl_bench: Run, tmp_path: Path) -> None:
    path = LAYOUTS["timm"](tmp_path)
    done = micl_bench("inspect", path)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("assumed")]
    assert line.split(maxsplit=1)[1] == (
        "2 heads (width / 64) (--arch heads=N), ImageNet's mean and std of the pixels (--pixels), "
        "norms' epsilon 1e-06 (--arch norm_eps=E), positions resampled bicubic, antialiased (--format)"
    )
    (said,) = done.stderr.splitlines()
    assert "assumed, as the file does not state it: 2 heads (width / 64), ImageNet's" in said
    told = micl_bench("inspect", LAYOUTS["micl_bench"](tmp_path))
    assert "assumed       nothing that the file does not state" in told.stdout
    assert told.stderr == ""
    options = ("--format", "timm", "--pixels", "clip", "--arch")
    asked = micl_bench("inspect", path, *options, "heads=2")
    # timm itself builds ViTs of the same names with other ones.
    assert "assumed       norms' epsilon 1e-06 (--arch norm_eps=E)\n" in asked.stdout
    asked = micl_bench("inspect", path, *options, "heads=2,norm_eps=1e-6")
    assert "assumed       nothing" in asked.stdout


def test_inspect_refuses_a_folder_for_its_json_before_it_reads(
    micl_bench: Run, tmp_path: Path
) -> None:
    done = micl_bench("inspect", tmp_path / "missing.pth", "--json", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"--json {tmp_path} is a folder" in done.stderr


def test_a_file_cannot_write_to_the_terminal(micl_bench: Run, tmp_path: Path) -> None:
    escape, path = "\x1b[31m", tmp_path / "own.pt"
    model = small_vit(num_classes=2)
    model.load_state_dict(random_state(model))
    provenance = {"classes": [f"c{escape}", "d\n"]}
    save_checkpoint(path, model, SMALL, method="m", provenance=provenance)
    # Names of classes stay different: the same escapes as for names of folders.
    assert load_checkpoint(path).classes == ("c\\u001b[31m", "d\\u000a")
    assert "\x1b" not in micl_bench("inspect", path, "--mapping").stdout
    for arch, method, field in (
        (dataclasses.replace(SMALL, name=f"a{escape}"), "m", "arch.name is 'a"),
        (SMALL, f"m{escape}", "method is 'm"),
    ):
        save_checkpoint(tmp_path / "named.pt", model, arch, method=method, provenance={})
        done = micl_bench("inspect", tmp_path / "named.pt")
        assert done.returncode == 2
        assert f"$.{field}\\x1b[31m'; needed: one line of at most 200 printable" in done.stderr
    state = random_state(small_vit()) | {f"x{escape}": torch.zeros(1)}
    torch.save(state, tmp_path / f"y{escape}.pth")
    done = micl_bench("inspect", tmp_path / f"y{escape}.pth")
    assert done.returncode == 2
    assert "x?[31m" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.fixture
def four_heads(tmp_path: Path) -> Path:
    """A network of four heads, which no tensor tells, for images of 32 pixels."""
    model = SMALL.build()
    path = tmp_path / "four-heads.pth"
    torch.save({"model": random_state(model)}, path)
    return path


def test_an_evaluation_says_what_it_assumed_and_strict_refuses_it(
    micl_bench: Run, four_heads: Path, few_digits: Path, tmp_path: Path
) -> None:
    def evaluated(out: str, *options: str) -> subprocess.CompletedProcess[str]:
        return micl_bench(
            "eval", "knn", "--checkpoint", four_heads, "--data", few_digits, "--out", tmp_path / out,
            "--set", "pixels.img_size=32", *options,
        )  # fmt: skip

    strict = evaluated("strict", "--strict")
    assert strict.returncode == 2
    (line,) = strict.stderr.splitlines()[-1:]
    for part in ("--strict", "2 heads (width / 64)", "--arch heads=N", "--pixels"):
        assert part in line
    assert not list((tmp_path / "strict").glob("*.json"))
    open_ = evaluated("open")
    assert open_.returncode == 0, open_.stderr
    assert "assumed: 2 heads (width / 64), ImageNet's mean and std of the pixels" in open_.stdout
    (record,) = (tmp_path / "open").glob("knn-*.json")
    told = json.loads(record.read_text())
    assert told["method"] == "four-heads"
    assert told["checkpoint"]["guesses"][0] == "2 heads (width / 64)"
    told_all = evaluated(
        "told", "--strict", "--arch", "heads=4,norm_eps=1e-6", "--pixels", "inception"
    )
    assert told_all.returncode == 0, told_all.stderr
    assert "assumed" not in told_all.stdout + told_all.stderr
    (record,) = (tmp_path / "told").glob("knn-*.json")
    told = json.loads(record.read_text())["checkpoint"]
    assert told["guesses"] == []
    assert told["network"].startswith("width 128, depth 2, 4 heads")
    assert told["normalisation"] == "mean 0.5 0.5 0.5, std 0.5 0.5 0.5"


def test_features_and_convert_refuse_too_what_strict_refuses(
    micl_bench: Run, four_heads: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new.pth"
    done = micl_bench("convert", four_heads, "--to", "timm", "--out", out, "--strict")
    assert (done.returncode, out.exists()) == (2, False)
    assert "positions resampled" in done.stderr
    features = tmp_path / "f.npz"
    done = micl_bench("features", "--checkpoint", four_heads, "--images", tmp_path, "--out", features,
                      "--strict")  # fmt: skip
    assert (done.returncode, features.exists()) == (2, False)
    assert "--strict" in done.stderr

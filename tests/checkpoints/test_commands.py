"""`micl-bench inspect` and `convert`, as a user runs them."""

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest
import torch
from layouts import LAYOUTS, SMALL, random_state, small_vit
from support import Run

from micl_bench.checkpoints import (
    load_checkpoint,
    save_checkpoint,
)
from micl_bench.runtime.files import digest_file
from micl_bench.runtime.safe_reading.read import read_safely


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


def test_assumptions_are_marked(micl_bench: Run, tmp_path: Path) -> None:
    path = LAYOUTS["timm"](tmp_path)
    done = micl_bench("inspect", path)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("assumed")]
    assert line.split(maxsplit=1)[1] == (
        "2 heads (width / 64) (--arch heads=N), ImageNet's mean and std of the pixels (--pixels), "
        "norms' epsilon 1e-06 (--arch norm_eps=E), positions resampled bicubic, antialiased (--format)"
    )
    (said,) = done.stderr.splitlines()
    assert "assumed, as the file does not state it: 2 heads (width / 64), ImageNet's" in said
    stated = micl_bench("inspect", LAYOUTS["micl_bench"](tmp_path))
    assert "assumed       nothing that the file does not state" in stated.stdout
    assert stated.stderr == ""
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
    """A network of four heads, which no tensor shows, for images of 32 pixels."""
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
    content = json.loads(record.read_text())
    assert content["method"] == "four-heads"
    assert content["checkpoint"]["guesses"][0] == "2 heads (width / 64)"
    told_all = evaluated(
        "stated", "--strict", "--arch", "heads=4,norm_eps=1e-6", "--pixels", "inception"
    )
    assert told_all.returncode == 0, told_all.stderr
    assert "assumed" not in told_all.stdout + told_all.stderr
    (record,) = (tmp_path / "stated").glob("knn-*.json")
    checkpoint = json.loads(record.read_text())["checkpoint"]
    assert checkpoint["guesses"] == []
    assert checkpoint["network"].startswith("width 128, depth 2, 4 heads")
    assert checkpoint["normalisation"] == "mean 0.5 0.5 0.5, std 0.5 0.5 0.5"


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

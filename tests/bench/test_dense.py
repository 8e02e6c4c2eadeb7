"""`bench dense` runs what it says and writes what it measured; how fast is never asserted."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from support import REPOSITORY, Run

pytest.importorskip("mmseg")

from micl_bench.bench.dense import DenseSettings, cases
from micl_bench.bench.iteration import bench_recipe
from micl_bench.bench.machine import in_own_process
from micl_bench.openmmlab import MiCLViT
from micl_bench.runtime.errors import InputError

CPU = torch.device("cpu")
NAMES = [
    f"{kind}{checkpointed}_{precision}"
    for precision in ("fp32", "bf16")
    for checkpointed in ("", "_checkpointed")
    for kind in ("plain", "windowed")
]


@pytest.mark.long
def test_the_backbones_figures_are_written(micl_bench: Run, tmp_path: Path) -> None:
    words = ("--arch", "vit_demo_patch4_32", "--size", 64, "--batch", 2, "--rounds", 1)
    done = micl_bench("bench", "dense", *words, "--json", "dense.json")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "dense.json").read_text())
    assert content["benchmark"] == "dense"
    assert content["settings"] == {
        "arch": "vit_demo_patch4_32",
        "size": 64,
        "batch": 2,
        "rounds": 1,
        "device": "cpu",
    }
    assert {"processor", "cores", "torch"} <= content["environment"].keys()
    assert [result["name"] for result in content["results"]] == NAMES
    for result in content["results"]:
        assert result["images_per_second"] > 0
        # More than the weights of 3 MiB and their gradients, less than the libraries too.
        assert 6 < result["peak_memory_mib"] < 300
        assert result["attention"] == "flash_attention_for_cpu"
        assert result["name"] in done.stdout


def test_on_a_gpu_each_case_is_compiled_too() -> None:
    named = [case.name for case in cases(torch.device("cuda"))]
    assert named == NAMES + [f"{name}_compiled" for name in NAMES]


@pytest.mark.long
def test_an_iteration_of_a_recipe_takes_about_what_was_estimated() -> None:
    recipe = REPOSITORY / "downstream" / "embedded_upernet.py"
    found = bench_recipe(recipe, CPU, overrides=[], batch=20, rounds=1)
    assert (found["batch"], found["height"], found["width"]) == (20, 64, 64)
    assert found["images_per_second"] > 0
    # The allocator and libraries that load late take a constant 40 MiB or so, and up to a sixth more.
    estimated = found["estimated_memory_mib"]
    assert 0.75 * estimated < found["peak_memory_mib"] < 1.3 * estimated + 60


@pytest.mark.long
def test_a_recipe_on_the_command_line(micl_bench: Run, tmp_path: Path) -> None:
    recipe = REPOSITORY / "downstream" / "embedded_mask_rcnn.py"
    checkpointed = "model.backbone.drop_path=0.1"
    words = ("--recipe", recipe, "--batch", 1, "--rounds", 1, "--set", checkpointed)
    done = micl_bench("bench", "dense", *words, "--json", "dense.json")
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "dense.json").read_text())
    (result,) = content["results"]
    assert (result["name"], result["batch"]) == ("iteration", 1)
    assert result["peak_memory_mib"] > 0
    assert content["settings"]["recipe"] == "embedded_mask_rcnn.py"
    assert content["settings"]["overrides"] == [checkpointed]
    assert "estimated:" in done.stdout
    assert len(done.stdout.splitlines()) == 3


def test_all_cases_compute_the_same_maps() -> None:
    """One model serves all of them by its attributes, so each must reach what it names."""
    images_NCHW = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    options = {"img_size": 64, "strides": (4,), "drop_path": 0.0}
    # By default all of four blocks would be global.
    model = MiCLViT(
        "random:vit_demo_patch4_32", **options, window_size=16, global_blocks=[3]
    ).train()
    (windowed,) = model(images_NCHW)
    model.window_size = 0
    (plain,) = model(images_NCHW)
    model.activation_checkpointing = True
    (again,) = model(images_NCHW)
    torch.testing.assert_close(windowed, plain, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(again, plain, rtol=0, atol=0)
    model.window_size = 4
    assert not torch.allclose(model(images_NCHW)[0], plain, atol=1e-3)


def _refuse() -> None:
    raise InputError("not like this")


def _die() -> None:
    raise SystemExit(3)


def _fail() -> None:
    raise KeyError("no\nsuch part")


def _be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_fails_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="not like this"):
        in_own_process(_refuse)
    with pytest.raises(InputError, match=r"^KeyError: 'no\\nsuch part'$"):
        in_own_process(_fail)
    with pytest.raises(InputError, match=r"ended with exit code 3$"):
        in_own_process(_die)
    with pytest.raises(InputError, match=r"was killed, which .* memory runs out$"):
        in_own_process(_be_killed)
    assert capfd.readouterr().err == ""


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "message"),
    [
        # UperNet's batch norm does not train on one image.
        (
            ("--batch", 1),
            "cannot be measured: a value is not allowed: Expected more than 1 value per",
        ),
        (("--set", "model.decode_head.type=NoSuchHead"), "NoSuchHead is not in"),
    ],
)
def test_a_recipe_that_fails_says_so_in_one_line(
    micl_bench: Run, words: tuple, message: str
) -> None:
    recipe = REPOSITORY / "downstream" / "embedded_upernet.py"
    done = micl_bench("bench", "dense", "--recipe", recipe, "--rounds", 1, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    # Nor are all parameters listed.
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--size", 0), "size is 0"),
        (("--arch", "vit_x"), "no architecture is called 'vit_x'"),
        (("--recipe", "nowhere.py"), "no recipe file at nowhere.py"),
        (("--recipe", "nowhere.py", "--rounds", 0), "rounds is 0; needed: 1 or more"),
    ],
)
def test_settings_that_make_no_sense(micl_bench: Run, words: tuple, message: str) -> None:
    done = micl_bench("bench", "dense", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_settings_are_checked_before_anything_runs() -> None:
    with pytest.raises(InputError, match="rounds is 0; needed: 1 or more"):
        DenseSettings(rounds=0)

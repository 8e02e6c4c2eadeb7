"""Weights right before the first step: two real processes, one of them tampered with."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import torchrun
from torch import nn

pytest.importorskip("mmengine")

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from openmmlab.tiny_runs import tiny, tiny_config, tiny_runner

from micl_bench.openmmlab.agreement import digests
from micl_bench.runtime.errors import InputError

WORKER = Path(__file__).with_name("agreement_worker.py")
QKV = "encoder.deep.vit.blocks.1.attn.qkv.weight"
SAME = {"type": "MiCLSameWeights"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("agreement") / "tiny.pt")


@pytest.fixture(scope="module")
def two(checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes tells of every case."""
    folder = tmp_path_factory.mktemp("two")
    done = torchrun(2, WORKER, folder, checkpoint)
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_train_on_the_same_weights(two: list[dict[str, Any]]) -> None:
    first, second = (found["plain"]["weights"] for found in two)
    assert first == second
    assert QKV in first


def test_under_ddp_each_parameter_has_its_rate(two: list[dict[str, Any]]) -> None:
    for found in two:
        rates, table = found["plain"]["rates"], found["plain"]["table"]
        assert {name: [1e-2 * scale, decay] for name, scale, decay in table} == rates
        # Depth 2: two layers above the first block, three above the stem.
        assert rates["encoder.deep.vit.blocks.0.attn.qkv.weight"] == [1e-2 * 0.5**2, 0.05]
        assert rates["encoder.deep.vit.pos_embed"] == [1e-2 * 0.5**3, 0.0]
        assert rates["head.weight"] == [1e-2, 0.05]


def test_precision_is_seen_under_ddp(two: list[dict[str, Any]]) -> None:
    assert [found["plain"]["precision"] for found in two] == [["bf16", "fp32"]] * 2


@pytest.mark.parametrize(
    ("case", "name", "who"),
    [("rank 1 differs", QKV, "rank 1 of 2"), ("a head differs", "head.bias", "rank 1 of 2")],
)
def test_a_process_that_differs_stops_all(
    two: list[dict[str, Any]], case: str, name: str, who: str
) -> None:
    messages = [found[case] for found in two]
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"{name} is not the same on all processes: {who} differs")
    assert "(1 of " in messages[0]
    assert "\n" not in messages[0]


def test_initialised_again_everywhere_is_found_too(two: list[dict[str, Any]]) -> None:
    for found in two:
        assert found["both initialise"].startswith(f"{QKV} does not hold the checkpoint's weights")


@HOOKS.register_module()
class Overwrite(Hook):
    """What an `init_weights` of the whole model would do."""

    def before_train(self, runner: Runner) -> None:
        nn.init.zeros_(runner.model.encoder["deep"].vit.cls_token)


def test_one_process_is_enough_to_find_lost_weights(checkpoint: str, tmp_path: Path) -> None:
    config = tiny_config(tmp_path, checkpoint, custom_hooks=[SAME, {"type": "Overwrite"}])
    with pytest.raises(InputError, match=r"^encoder\.deep\.vit\.cls_token does not hold .* \(1 of"):
        tiny_runner(config).train()


def test_pretrained_of_mmengine_cannot_take_the_checkpoints_place(
    checkpoint: str, tmp_path: Path
) -> None:
    other = tiny_runner(tiny_config(tmp_path / "other", checkpoint)).model.state_dict()
    other[QKV] += 1
    torch.save(other, tmp_path / "other.pth")
    config = tiny_config(tmp_path / "run", checkpoint, custom_hooks=[SAME])
    config.model.init_cfg = {"type": "Pretrained", "checkpoint": str(tmp_path / "other.pth")}
    with pytest.raises(
        InputError, match=r"attn\.qkv\.weight does not hold the checkpoint's weights"
    ):
        tiny_runner(config).train()


def test_a_run_that_goes_on_may_hold_others(checkpoint: str, tmp_path: Path) -> None:
    keys = {"custom_hooks": [SAME], "default_hooks": {"checkpoint": {"type": "CheckpointHook"}}}
    keys["default_hooks"]["checkpoint"].update(interval=1, by_epoch=False)  # type: ignore[index]
    tiny_runner(tiny_config(tmp_path, checkpoint, **keys)).train()
    again = tiny_runner(tiny_config(tmp_path, checkpoint, steps=2, resume=True, **keys))
    again.train()
    assert again.iter == 2


def test_every_tensor_has_a_digest_of_its_bits() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2).to(torch.bfloat16))
    model.register_buffer("hidden", torch.tensor(5), persistent=False)
    found = digests(model)
    assert found.keys() == {*model.state_dict(), "hidden"}
    expected = hashlib.sha256(b"torch.float32(3,)" + model[0].weight.detach().numpy().tobytes())
    assert found["0.weight"] == expected.hexdigest()
    # -0.0 equals 0.0, and is another weight.
    model[0].bias.data.neg_()
    assert digests(model)["0.bias"] != found["0.bias"]

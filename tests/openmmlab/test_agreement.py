"""Weights right before the first step: two real processes, one of them tampered with.

Run by torchrun with a folder and a checkpoint, this file is one of those processes.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from openmmlab.tiny_runs import ADAMW, hook_of, tiny, tiny_config, tiny_runner
from support import good, torchrun
from torch import nn

from micl_bench.openmmlab.agreement import digests
from micl_bench.openmmlab.optim import parameter_table
from micl_bench.openmmlab.precision import MiCLPrecision
from micl_bench.runtime.distributed import process_group, rank
from micl_bench.runtime.errors import InputError

QKV = "encoder.deep.vit.blocks.1.attn.qkv.weight"
SAME = {"type": "MiCLSameWeights"}
TAMPER = {"type": "Tamper", "name": QKV}
BF16 = {"type": "Bf16OptimWrapper", "optimizer": ADAMW, "constructor": "MiCLViTConstructor"}
CASES: dict[str, dict[str, Any]] = {
    "plain": {"optim_wrapper": {**BF16, "paramwise_cfg": {"layer_decay": 0.5}}},
    "rank 1 differs": {"custom_hooks": [{**TAMPER, "ranks": [1]}]},
    "a head differs": {"custom_hooks": [{**TAMPER, "ranks": [0], "name": "head.bias"}]},
    "both initialise": {"custom_hooks": [{**TAMPER, "ranks": [0, 1]}]},
}


@HOOKS.register_module()
class Tamper(Hook):
    """Change one weight a little, on some processes."""

    def __init__(self, ranks: list[int], name: str) -> None:
        self.ranks, self.name = ranks, name

    def before_train(self, runner: Runner) -> None:
        if rank() in self.ranks:
            with torch.no_grad():
                runner.model.module.state_dict()[self.name].view(-1)[-1].add_(1e-3)


def told(folder: Path, checkpoint: str, keys: dict[str, Any]) -> dict[str, Any]:
    """The rates that each parameter had, the table that is promised, precision and weights."""
    config = tiny_config(
        folder,
        checkpoint,
        steps=2,
        launcher="pytorch",
        # mmengine's default names a device, which a model on CPU must not have.
        model_wrapper_cfg={"type": "MMDistributedDataParallel", "device_ids": None},
        **{
            **keys,
            "custom_hooks": [SAME, {"type": "MiCLPrecision"}, *keys.get("custom_hooks", [])],
        },
    )
    runner = tiny_runner(config)
    runner.train()
    names = {parameter: name for name, parameter in runner.model.module.named_parameters()}
    groups = runner.optim_wrapper.optimizer.param_groups
    precision = hook_of(runner, MiCLPrecision)
    return {
        "rates": {names[p]: [g["lr"], g["weight_decay"]] for g in groups for p in g["params"]},
        "table": parameter_table(runner.model, layer_decay=0.5, weight_decay=0.05),
        "precision": [precision.seen, precision.evaluated],
        "weights": digests(runner.model.module),
    }


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("agreement") / "tiny.pt")


@pytest.fixture(scope="module")
def two(checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes tells of every case."""
    folder = tmp_path_factory.mktemp("two")
    good(torchrun(2, __file__, folder, checkpoint))
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_two_processes_train_on_the_same_weights_each_at_its_rate(
    two: list[dict[str, Any]],
) -> None:
    first, second = (found["plain"]["weights"] for found in two)
    assert first == second
    assert QKV in first
    for found in two:
        rates, table = found["plain"]["rates"], found["plain"]["table"]
        assert {name: [1e-2 * scale, decay] for name, scale, decay in table} == rates
        # Depth 2: two layers above the first block, three above the stem.
        assert rates["encoder.deep.vit.blocks.0.attn.qkv.weight"] == [1e-2 * 0.5**2, 0.05]
        assert rates["encoder.deep.vit.pos_embed"] == [1e-2 * 0.5**3, 0.0]
        assert rates["head.weight"] == [1e-2, 0.05]
        assert found["plain"]["precision"] == ["bf16", "fp32"]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("rank 1 differs", f"{QKV} is not the same on all processes: rank 1 of 2 differs"),
        ("a head differs", "head.bias is not the same on all processes: rank 1 of 2 differs"),
        # Alike everywhere, and not the checkpoint's.
        ("both initialise", f"{QKV} does not hold the checkpoint's weights"),
    ],
)
def test_weights_that_are_not_meant_stop_all(
    two: list[dict[str, Any]], case: str, words: str
) -> None:
    messages = [found[case] for found in two]
    assert messages[0] == messages[1]
    assert messages[0].startswith(words)
    assert "(1 of " in messages[0]
    assert "\n" not in messages[0]


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


if __name__ == "__main__":
    folder, checkpoint = Path(sys.argv[1]), sys.argv[2]
    found: dict[str, Any] = {}
    # mmengine's own start of processes asks for GPUs even where gloo is named.
    with process_group():
        for case, keys in CASES.items():
            try:
                found[case] = told(folder / case.replace(" ", "-"), checkpoint, keys)
            except InputError as error:
                found[case] = str(error)
        (folder / f"{rank()}.json").write_text(json.dumps(found))

"""A config that asks for bf16 or fp16 and runs in something else is refused, and by which words."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import MODELS, OPTIM_WRAPPERS
from mmengine.runner import Runner
from openmmlab.tiny_runs import ADAMW, Linear, Rates, hook_of, tiny, tiny_config, tiny_runner

from micl_bench.openmmlab.precision import MiCLPrecision
from micl_bench.runtime.errors import InputError

HOOKS = [{"type": "MiCLPrecision"}, {"type": "Rates"}]
BF16 = {"optim_wrapper": {"type": "Bf16OptimWrapper", "optimizer": ADAMW}}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("precision") / "tiny.pt")


@OPTIM_WRAPPERS.register_module()
class AmpOnCpu(AmpOptimWrapper):
    """mmengine's own but for its refusal of CPU."""

    def __init__(self, dtype: str | None = None, **options: Any) -> None:
        OptimWrapper.__init__(self, **options)
        self.cast_dtype = getattr(torch, dtype) if dtype else None
        self.loss_scaler = torch.amp.GradScaler("cpu")
        self._scale_update_param = None


@MODELS.register_module()
class Stubborn(Linear):
    """Turns autocast off around some of its modules."""

    def __init__(self, off: str, **options: Any) -> None:
        super().__init__(**options)
        module = self.get_submodule(off)
        plain = module.forward

        def forward(*arguments: Any, **named: Any) -> Any:
            with torch.autocast("cpu", enabled=False):
                floats = [a.float() if torch.is_tensor(a) else a for a in arguments]
                return plain(*floats, **named)

        module.forward = forward  # type: ignore[method-assign]


def made(work_dir: Path, checkpoint: str | None, off: str = "", **keys: Any) -> Runner:
    config = tiny_config(work_dir, checkpoint, custom_hooks=HOOKS, **keys)
    if off:
        config.model.update(type="Stubborn", off=off)
    return tiny_runner(config)


def ran(work_dir: Path, checkpoint: str | None, **keys: Any) -> Runner:
    runner = made(work_dir, checkpoint, **keys)
    runner.train()
    return runner


def refused(message: str, work_dir: Path, checkpoint: str | None, **keys: Any) -> int:
    """How many steps it took to see it."""
    runner = made(work_dir, checkpoint, steps=3, **keys)
    with pytest.raises(InputError, match=message) as caught:
        runner.train()
    assert "\n" not in str(caught.value)
    return len(hook_of(runner, Rates).rates)


@pytest.mark.parametrize(
    ("wrapper", "expected", "head"),
    [
        ({"type": "OptimWrapper"}, "fp32", torch.float32),
        ({"type": "Bf16OptimWrapper"}, "bf16", torch.bfloat16),
        ({"type": "AmpOnCpu", "dtype": "bfloat16"}, "bf16", torch.bfloat16),
        ({"type": "AmpOnCpu"}, "bf16", torch.bfloat16),
    ],
)
def test_what_ran_is_told(
    checkpoint: str, tmp_path: Path, wrapper: dict[str, Any], expected: str, head: torch.dtype
) -> None:
    runner = ran(tmp_path, checkpoint, optim_wrapper={**wrapper, "optimizer": ADAMW})
    hook = hook_of(runner, MiCLPrecision)
    assert (hook.seen, hook.evaluated) == (expected, "fp32")
    # One training step, then two batches evaluated, as the model itself saw them.
    assert runner.model.head_dtypes == [head, torch.float32, torch.float32]
    assert not any(m._forward_hooks for m in runner.model.modules()), "the hooks are taken off"


def test_bf16_trains_what_fp32_trains_only_coarser(checkpoint: str, tmp_path: Path) -> None:
    fp32, bf16 = (
        ran(tmp_path / name, checkpoint, **keys).model.state_dict()
        for name, keys in (("fp32", {}), ("bf16", BF16))
    )
    assert all(tensor.dtype == torch.float32 for tensor in bf16.values())
    assert not torch.equal(bf16["head.weight"], fp32["head.weight"])
    # AdamW's first step is the rate in the direction of the gradient's sign.
    torch.testing.assert_close(bf16["head.weight"], fp32["head.weight"], atol=2.1e-2, rtol=0)


@pytest.mark.parametrize(
    ("keys", "asked"),
    [
        ({"fp16": {"loss_scale": "dynamic"}}, "fp16 asks for fp16"),
        ({"fp16": {}}, "fp16 asks for fp16"),
        ({"fp16": {}, **BF16}, "fp16 asks for fp16"),
        ({"bf16": True}, "bf16 asks for bf16"),
        ({"amp": True}, "amp asks for fp16 or bf16"),
        ({"optimizer_config": {"type": "Fp16OptimizerHook"}}, "optimizer_config asks for fp16"),
    ],
)
def test_a_key_that_mmengine_never_reads_is_refused_before_the_first_step(
    checkpoint: str, tmp_path: Path, keys: dict[str, Any], asked: str
) -> None:
    runs = "bf16" if "optim_wrapper" in keys else "fp32"
    message = f"{asked}, but mmengine never reads it and the run would be in {runs}"
    assert refused(message, tmp_path, checkpoint, **keys) == 0


def test_mmsegs_own_amp_config_is_refused(checkpoint: str, tmp_path: Path) -> None:
    mmseg = pytest.importorskip("mmseg")
    folder = Path(mmseg.__file__).parent / ".mim" / "configs" / "mae"
    config = Config.fromfile(folder / "mae-base_upernet_8xb2-amp-160k_ade20k-512x512.py")
    assert config.optim_wrapper.type == "OptimWrapper"
    assert refused("asks for fp16", tmp_path, checkpoint, fp16=config.fp16) == 0


@pytest.mark.parametrize(
    "keys",
    [{"fp16": None}, {"fp16": {"enabled": False}}, {"bf16": True, **BF16}, {"amp": 1, **BF16}],
)
def test_a_key_that_changes_nothing_is_let_through(
    checkpoint: str, tmp_path: Path, keys: dict[str, Any]
) -> None:
    expected = "bf16" if "optim_wrapper" in keys else "fp32"
    assert hook_of(ran(tmp_path, checkpoint, **keys), MiCLPrecision).seen == expected


@pytest.mark.parametrize(
    ("off", "seen"),
    [("encoder.deep", "fp32"), ("encoder.deep.vit.blocks.1.mlp", r"bf16\+fp32")],
)
def test_autocast_turned_off_in_the_vit_is_found_in_the_first_step(
    checkpoint: str, tmp_path: Path, off: str, seen: str
) -> None:
    message = f"optim_wrapper asks for bf16, but the MiCLViT ran in {seen} in the first training"
    assert refused(message, tmp_path, checkpoint, off=off, **BF16) == 1


def test_a_head_may_turn_it_off(checkpoint: str, tmp_path: Path) -> None:
    runner = ran(tmp_path, checkpoint, off="head", **BF16)
    assert hook_of(runner, MiCLPrecision).seen == "bf16"


def test_without_a_micl_vit_the_whole_model_is_watched(tmp_path: Path) -> None:
    runner = ran(tmp_path / "some", None, off="head", **BF16)
    assert hook_of(runner, MiCLPrecision).seen == "bf16+fp32"
    runner = made(tmp_path / "none", None, **BF16)
    runner.model.forward = torch.autocast("cpu", enabled=False)(runner.model.forward)
    with pytest.raises(InputError, match="asks for bf16, but the model ran in fp32"):
        runner.train()


def test_fp16_evaluation_that_is_none_is_refused(checkpoint: str, tmp_path: Path) -> None:
    # On CPU mmengine's fp16 evaluation is bf16.
    config = tiny_config(tmp_path, checkpoint, custom_hooks=HOOKS)
    config.val_cfg = {"type": "ValLoop", "fp16": True}
    with pytest.raises(InputError, match="val_cfg asks for fp16, but the MiCLViT ran in bf16"):
        tiny_runner(config).train()
    config.test_cfg, config.test_dataloader = (
        {"type": "TestLoop", "fp16": True},
        config.val_dataloader,
    )
    config.test_evaluator = config.val_evaluator
    with pytest.raises(InputError, match="test_cfg asks for fp16, but the MiCLViT ran in bf16"):
        tiny_runner(config).test()


@pytest.mark.long
def test_a_compiled_step_is_watched_too(tmp_path: Path) -> None:
    # The tracing alone, without generating code.
    shallow = tiny(tmp_path / "shallow.pt", depth=1)
    runner = ran(tmp_path / "run", shallow, compile={"backend": "eager"}, **BF16)
    assert hook_of(runner, MiCLPrecision).seen == "bf16"


def test_amp_on_cpu_is_one_clear_line(checkpoint: str, tmp_path: Path) -> None:
    wrapper = {"type": "AmpOptimWrapper", "optimizer": ADAMW, "constructor": "MiCLViTConstructor"}
    runner = tiny_runner(tiny_config(tmp_path, checkpoint, optim_wrapper=wrapper))
    gpu = torch.cuda.is_available()
    with nullcontext() if gpu else pytest.raises(InputError, match="AmpOptimWrapper needs a GPU"):
        runner.train()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="mmengine's AmpOptimWrapper needs a GPU")
@pytest.mark.parametrize(
    ("dtype", "expected"), [(None, "fp16"), ("float16", "fp16"), ("bfloat16", "bf16")]
)
def test_amp_on_a_gpu(checkpoint: str, tmp_path: Path, dtype: str | None, expected: str) -> None:
    wrapper = {"type": "AmpOptimWrapper", "dtype": dtype, "optimizer": ADAMW}
    val_cfg = {"type": "ValLoop", "fp16": True}
    hook = hook_of(ran(tmp_path, checkpoint, optim_wrapper=wrapper, val_cfg=val_cfg), MiCLPrecision)
    assert (hook.seen, hook.evaluated) == (expected, "fp16")

"""Mixed precision under mmengine: bf16 on any device, and a hook that compares the precision that a
config asks for with the one that its model computed in.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS, OPTIM_WRAPPERS
from mmengine.runner import Runner
from mmengine.runner.amp import autocast
from torch import nn

from micl_bench.openmmlab.vit import micl_vits, unwrapped
from micl_bench.runs.precision import PrecisionWatch
from micl_bench.runtime.errors import InputError

_NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
# Keys that mmcv's older runners read, or that users take for them.
_DEAD_KEYS = {"fp16": "fp16", "bf16": "bf16", "amp": "fp16 or bf16"}


@OPTIM_WRAPPERS.register_module()
class Bf16OptimWrapper(OptimWrapper):
    """Train under autocast to bfloat16, on CPU too, where mmengine's `AmpOptimWrapper` refuses.

    The loss is not scaled: bfloat16 has the range of float32.
    """

    cast_dtype = torch.bfloat16

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Compute one step's loss in bfloat16."""
        with super().optim_context(model), autocast(dtype=self.cast_dtype):
            yield


@HOOKS.register_module()
class MiCLPrecision(Hook):
    """`custom_hooks=[dict(type="MiCLPrecision")]`: no run in another precision than was asked for.

    The optimiser wrapper says which precision is asked for, and for evaluation `val_cfg` or `test_cfg`
    with `fp16`; a key such as `fp16` at the config's top, which mmengine never reads, asks in vain. It
    is compared with the precision that the linear layers and convolutions of the `MiCLViT` gave in the
    first training step, and in the first batch evaluated; a model without one is watched as a whole.
    Every process looks at itself. A difference is an InputError.
    """

    def __init__(self) -> None:
        self.seen = ""
        """Precision of training: `fp32`, `bf16`, `fp16`, `tf32` (CUDA rounded fp32 factors), several
        joined by `+`; empty before the first step."""
        self.evaluated = ""
        """The same for evaluation."""
        self._watch: PrecisionWatch | None = None

    def before_train(self, runner: Runner) -> None:
        """Refuse keys that ask for a precision that will not run."""
        asked = _asked_by(runner.optim_wrapper)
        for key, wanted in _dead_keys(runner.cfg):
            if (asked or "fp32") not in wanted:
                raise InputError(
                    f"the config's {key} asks for {wanted}, but mmengine never reads it and the run "
                    f"would be in {asked or 'fp32'}; remove it and ask with "
                    "optim_wrapper.type=AmpOptimWrapper and its dtype"
                )

    def _before_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, mode: str = "train"
    ) -> None:
        """Begin to watch, unless the precision is known."""
        if not (self.seen if mode == "train" else self.evaluated):
            vits = micl_vits(runner.model)
            watched = nn.ModuleList(vits.values()) if vits else unwrapped(runner.model)
            # Asking is compared here, in the config's own words.
            self._watch = PrecisionWatch(watched, asked="fp32")

    def _after_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: Any = None,
        mode: str = "train",
    ) -> None:
        """Compare once."""
        if self._watch is None:
            return
        ran = self._watch.seen()
        self._watch.stop()
        self._watch = None
        if mode == "train":
            self.seen = ran
            key, asked = "optim_wrapper", _asked_by(runner.optim_wrapper)
            when = "the first training step"
        else:
            self.evaluated = ran
            loop = runner.val_loop if mode == "val" else runner.test_loop
            key, asked = f"{mode}_cfg", "fp16" if getattr(loop, "fp16", False) else ""
            when = "the first batch evaluated"
        has_vit = bool(micl_vits(runner.model))
        # Heads of the libraries turn autocast off here and there; a ViT has no reason to.
        kept = ran == asked if has_vit else asked in ran.split("+")
        if asked and not kept:
            what = "the MiCLViT" if has_vit else "the model"
            raise InputError(
                f"{key} asks for {asked}, but {what} ran in {ran or 'nothing'} in {when}; ask for what "
                "runs, or find what turns autocast off"
            )


def _asked_by(optim_wrapper: Any) -> str:
    """The precision that a wrapper casts to; empty for one that leaves it alone."""
    if not hasattr(optim_wrapper, "cast_dtype"):
        return ""
    dtype = optim_wrapper.cast_dtype or torch.get_autocast_dtype(get_device())
    return _NAMES.get(dtype, str(dtype))


def _dead_keys(config: Any) -> Iterator[tuple[str, str]]:
    """Keys that ask for a precision and that nothing reads, with what they ask for."""
    for key, wanted in _DEAD_KEYS.items():
        value = config.get(key)
        off = isinstance(value, dict) and value.get("enabled") is False
        # An empty dict asks too: there it meant fp16 with default settings.
        if value is not None and value is not False and not off:
            yield key, wanted
    old = config.get("optimizer_config")
    if isinstance(old, dict) and "Fp16" in str(old.get("type")):
        yield "optimizer_config", "fp16"

"""Parameter groups for fine-tuning a `MiCLViT` under any head: slower towards the input, decay of
matrices alone.

Layers are those that the backbone itself tells, wherever in the model it is and whatever it is called:
mmsegmentation's own constructor goes by the names of a few classes and of their parts, and leaves
every block of any other at the full rate. mmengine's own lets a key such as `backbone` switch its
rules for norms and biases off, so a lower rate of the backbone would bring their decay back.

A scheduler of mmengine multiplies each group's rate, so the ratios between layers stay, unless it has
an `eta_min` above 0: that is one floor for all groups, and lifts those that are below it.
"""

import logging
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from micl_bench.openmmlab.find_vit import micl_vits, unwrapped
from micl_bench.runtime.errors import InputError

_DEFAULTS = {"layer_decay": 1.0, "backbone_lr_mult": 1.0}


class ParameterRow(NamedTuple):
    """What the optimiser is told of one trainable parameter."""

    name: str
    lr_scale: float
    """Its learning rate over that of the heads."""
    weight_decay: float


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MiCLViTConstructor(DefaultOptimWrapperConstructor):
    """`constructor="MiCLViTConstructor", paramwise_cfg=dict(layer_decay=0.65, backbone_lr_mult=1.0)`.

    Rates and decay are those of `parameter_table`; both keys are optional, 1.0 if they are missing.
    The optimiser of the config must name its `lr` and `weight_decay`.
    """

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: Mapping[str, Any] | None = None
    ) -> None:
        """Check the keys.

        Raises:
            InputError: an unknown one, or an optimiser without `lr` or `weight_decay`.
        """
        settings = {**_DEFAULTS, **(paramwise_cfg or {})}
        if unknown := settings.keys() - _DEFAULTS.keys():
            raise InputError(
                f"optim_wrapper.paramwise_cfg has {', '.join(sorted(unknown))}; MiCLViTConstructor "
                f"knows {' and '.join(_DEFAULTS)}, and takes the number of layers from the backbone"
            )
        super().__init__(optim_wrapper_cfg, settings)
        for name in ("lr", "weight_decay"):
            if self.optimizer_cfg.get(name) is None:
                raise InputError(
                    f"optim_wrapper.optimizer has no {name}; MiCLViTConstructor needs it"
                )
            value = self.optimizer_cfg[name]
            if not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise InputError(f"optim_wrapper.optimizer.{name} is {value!r}; needed is a number")

    def rows(self, model: nn.Module) -> list[ParameterRow]:
        """The config's `parameter_table`.

        Raises:
            InputError: no `MiCLViT` in the model, or a value that is not allowed.
        """
        return parameter_table(model, weight_decay=self.base_wd, **self.paramwise_cfg)

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **_: Any) -> None:
        """Append one group for each pair of learning rate and decay, the highest rate first."""
        named = dict(unwrapped(module).named_parameters())
        groups: dict[tuple[float, float], list[str]] = {}
        for row in self.rows(module):
            groups.setdefault((row.lr_scale, row.weight_decay), []).append(row.name)
        for (scale, decay), names in sorted(groups.items(), reverse=True):
            label = f"learning rate x {scale:.6g}, weight decay {decay:g}"
            text = f"{label}: {', '.join(names)}"
            # One line a block; `log_level = "DEBUG"` in a config shows them.
            print_log(text, logger="current", level=logging.DEBUG)
            params.append(
                {
                    "params": [named[name] for name in names],
                    "lr": self.base_lr * scale,
                    "weight_decay": decay,
                    "name": label,
                }
            )

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapped optimiser.

        Raises:
            InputError: as `rows`, or mixed precision where mmengine has none.
        """
        _refuse_amp_on_cpu(self.optim_wrapper_cfg.get("type"))
        return super().__call__(model)


def parameter_table(
    model: nn.Module,
    *,
    layer_decay: float = 1.0,
    backbone_lr_mult: float = 1.0,
    weight_decay: float,
) -> list[ParameterRow]:
    """Learning-rate scale and weight decay of every trainable parameter, in the model's order.

    In a `MiCLViT` the scale is `layer_decay` to the number of layers above the parameter's own: for
    depth d, d + 1 for the stem (patch projection, [CLS], registers, positions), d - i for block i (from
    0), and 0 for the final norm, as in the released code of BEiT (Bao et al. 2022) and ViTDet (Li et
    al. 2022). The ViT's own parameters have `backbone_lr_mult` as a factor on top; layers that rescale
    its maps, necks and heads have 1. Vectors (norms, biases, layer scales) have no decay, nor what the
    backbone declares free of it: positions, [CLS], registers, tables of relative positions. A parameter
    that modules share is listed once, under its first name.

    Args:
        model: with one `MiCLViT` or more at any depth, wrapped for distributed training or not.
        layer_decay: in (0, 1].
        backbone_lr_mult: above 0.
        weight_decay: of the parameters that have any.

    Raises:
        InputError: no `MiCLViT`, or a value that is not allowed.
    """
    _require_number("layer_decay", layer_decay, most=1.0)
    _require_number("backbone_lr_mult", backbone_lr_mult, most=math.inf)
    model = unwrapped(model)
    vits = micl_vits(model)
    if not vits:
        raise InputError(
            f"{type(model).__name__} has no MiCLViT, so its layers are not known to "
            "MiCLViTConstructor; take a backbone of type MiCLViT or another constructor"
        )
    scales, free = dict[str, float](), set[str]()
    for prefix, vit in vits.items():
        above = vit.layers_above()
        for name, _ in vit.named_parameters():
            factor = backbone_lr_mult if name.startswith("vit.") else 1.0
            scales[prefix + name] = factor * layer_decay ** above[name]
        free |= {prefix + name for name in vit.no_weight_decay()}
    return [
        ParameterRow(
            name,
            scales.get(name, 1.0),
            0.0 if parameter.ndim <= 1 or name in free else weight_decay,
        )
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]


def _require_number(name: str, value: Any, *, most: float) -> None:
    # Written so that not-a-number is refused too.
    sane = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= most
    if not sane or math.isinf(value):
        allowed = f"above 0, {most:g} at most" if math.isfinite(most) else "a number above 0"
        raise InputError(f"paramwise_cfg.{name} is {value!r}; allowed: {allowed}")


def _refuse_amp_on_cpu(kind: Any) -> None:
    named = kind in ("AmpOptimWrapper", "mmengine.AmpOptimWrapper", AmpOptimWrapper)
    if named and get_device() == "cpu":
        raise InputError(
            "optim_wrapper.type AmpOptimWrapper needs a GPU, and there is none here; without dtype and "
            "loss_scale take Bf16OptimWrapper, which runs on CPU too, or OptimWrapper, which is fp32"
        )

"""Parameter groups for fine-tuning a `MiCLViT` under any head: slower towards the input, decay of
matrices alone.

Layers are those that the backbone itself declares, wherever in the model it is, whatever its name:
mmsegmentation's own constructor goes by the names of a few classes and of their parts, and leaves
every block of any other at the full rate. mmengine's own lets a key such as `backbone` switch its
rules for norms and biases off, so a lower rate of the backbone would bring their decay back.

A scheduler of mmengine multiplies each group's rate, so the ratios between layers stay, unless it has
an `eta_min` above 0: that is one floor for all groups, and lifts those that are below it.
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper, DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from micl_bench.openmmlab.configs import read
from micl_bench.openmmlab.isolation import blaming
from micl_bench.openmmlab.iteration import build_model
from micl_bench.openmmlab.vit import micl_vits, unwrapped
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import Fraction, NotNegative, Positive, checked

HEADER = ("parameter", "scale", "learning rate", "weight decay")
_DEFAULTS = {"layer_decay": 1.0, "backbone_lr_mult": 1.0}


class ParameterRow(NamedTuple):
    """The optimiser's settings of one trainable parameter."""

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
            if name not in self.optimizer_cfg:
                raise InputError(
                    f"optim_wrapper.optimizer has no {name}; MiCLViTConstructor needs it"
                )
            checked(NotNegative, self.optimizer_cfg[name], f"optim_wrapper.optimizer.{name}")

    def rows(self, model: nn.Module) -> list[ParameterRow]:
        """The config's `parameter_table`."""
        return parameter_table(model, weight_decay=self.base_wd, **self.paramwise_cfg)

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **_: Any) -> None:
        """Append one group for each pair of learning rate and decay, the highest rate first."""
        named = dict(unwrapped(module).named_parameters())
        groups: dict[tuple[float, float], list[str]] = {}
        for row in self.rows(module):
            groups.setdefault((row.lr_scale, row.weight_decay), []).append(row.name)
        for (scale, decay), names in sorted(groups.items(), reverse=True):
            label = f"learning rate x {scale:.6g}, weight decay {decay:g}"
            # One line per block; `log_level = "DEBUG"` in a config shows them.
            print_log(f"{label}: {', '.join(names)}", logger="current", level=logging.DEBUG)
            group = {"params": [named[name] for name in names], "name": label}
            params.append(group | {"lr": self.base_lr * scale, "weight_decay": decay})

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapped optimiser.

        Raises:
            InputError: as `parameter_table`, or mixed precision where mmengine has none.
        """
        kind: Any = self.optim_wrapper_cfg.get("type")
        named = kind in ("AmpOptimWrapper", "mmengine.AmpOptimWrapper", AmpOptimWrapper)
        if named and get_device() == "cpu":
            raise InputError(
                "optim_wrapper.type AmpOptimWrapper needs a GPU, and there is none here; without dtype "
                "and loss_scale take Bf16OptimWrapper, which runs on CPU too, or OptimWrapper, which is "
                "fp32"
            )
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
    checked(Fraction, layer_decay, "paramwise_cfg.layer_decay")
    checked(Positive, backbone_lr_mult, "paramwise_cfg.backbone_lr_mult")
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


def layer_rows(path: Path, overrides: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """A row below `HEADER` for each parameter that a config trains; the rate is the highest it gets.

    The config's model is built, with the checkpoint that it names; no data is needed.

    Raises:
        InputError: unreadable config, another constructor, or a model that cannot be built.
    """
    config = read(path, overrides)
    options = {**(config.get("optim_wrapper") or {})}
    if (kind := options.pop("constructor", None)) != "MiCLViTConstructor":
        raise InputError(
            f"{path} has optim_wrapper.constructor {kind!r}; layers are those of MiCLViTConstructor"
        )
    paramwise_cfg = options.pop("paramwise_cfg", None)
    constructor = MiCLViTConstructor(options, paramwise_cfg)
    # The libraries' warnings are about training.
    with blaming(str(path), "cannot be built"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rows = constructor.rows(build_model(config))
    return [
        (name, f"{scale:.6g}", f"{constructor.base_lr * scale:.6g}", f"{decay:g}")
        for name, scale, decay in rows
    ]

"""Parameter groups for fine-tuning a `MiCLViT` under any head.

mmengine's own constructor lets a key such as `backbone` switch its rules for norms and biases off,
so a lower learning rate of the backbone would bring their weight decay back.
"""

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import nn

_NEVER_DECAYED = ("pos_embed", "cls_token")


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MiCLViTConstructor(DefaultOptimWrapperConstructor):
    """`constructor="MiCLViTConstructor", paramwise_cfg=dict(backbone_lr_mult=0.25)`.

    No weight decay of norms, biases, positions and [CLS]; a multiple of the learning rate for the
    ViT's own parameters.
    """

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapped optimiser, with at most four groups."""
        wrapper_cfg, optimizer_cfg = self.optim_wrapper_cfg.copy(), self.optimizer_cfg.copy()
        wrapper_cfg.setdefault("type", "OptimWrapper")
        multiple = (self.paramwise_cfg or {}).get("backbone_lr_mult", 1.0)
        optimizer_cfg["params"] = parameter_groups(
            model, lr=self.base_lr, backbone_lr=self.base_lr * multiple
        )
        return OPTIM_WRAPPERS.build(
            wrapper_cfg, default_args={"optimizer": OPTIMIZERS.build(optimizer_cfg)}
        )


def parameter_groups(model: nn.Module, *, lr: float, backbone_lr: float) -> list[dict[str, Any]]:
    """Trainable parameters by (learning rate, decayed or not); decayed groups take the default."""
    groups: dict[tuple[bool, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        in_vit = name.startswith("backbone.vit.")
        decayed = parameter.ndim > 1 and not name.endswith(_NEVER_DECAYED)
        options = {} if decayed else {"weight_decay": 0.0}
        fresh = {"params": [], "lr": backbone_lr if in_vit else lr, **options}
        groups.setdefault((in_vit, decayed), fresh)["params"].append(parameter)
    return list(groups.values())

"""Where in a model its `MiCLViT` is: alone, in a detector, in a wrapper of another library."""

from mmengine.model import is_model_wrapper
from torch import nn

from micl_bench.openmmlab.vit import MiCLViT


def unwrapped(model: nn.Module) -> nn.Module:
    """The model below `DistributedDataParallel` and its like."""
    inner = model.module if is_model_wrapper(model) else model
    assert isinstance(inner, nn.Module)
    return inner


def micl_vits(model: nn.Module) -> dict[str, MiCLViT]:
    """Every `MiCLViT` of a model by the beginning of its parameters' names: `backbone.`, or empty."""
    return {
        f"{name}." if name else "": module
        for name, module in model.named_modules()
        if isinstance(module, MiCLViT)
    }

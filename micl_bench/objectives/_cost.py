"""What one image costs a method, counted as `encode` runs on tensors that have shapes alone.

Shapes: N images, M patches in all views, P values per patch, V views, K patches per view, T tokens.
"""

from typing import Protocol

import torch
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from micl_bench.backbone import Arch
from micl_bench.data.visible import Patches, Seen


class Method(Protocol):
    """What is asked of an objective; each is described there."""

    def wants(self, arch: Arch) -> Patches: ...

    def added(self, vit: VisionTransformer) -> nn.Module: ...

    def encode(self, vit: VisionTransformer, added: nn.Module, seen: Seen) -> Tensor: ...


def flop_of(method: Method, arch: Arch, drawn: dict[str, Tensor]) -> float:
    """FLOP of the forward and backward pass of one image with these further draws."""
    vit, added, seen = _one_image(method, arch, drawn)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        method.encode(vit, added, seen).sum().backward()
    return float(counter.get_total_flops())


def tokens_of(method: Method, arch: Arch, drawn: dict[str, Tensor]) -> tuple[int, int]:
    """Tokens of one image that pass the blocks of ViTs: with gradient, and without."""
    vit, added, seen = _one_image(method, arch, drawn)
    counted = {True: 0, False: 0}

    def count(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (tokens_NTD, *_) = inputs
        learns = tokens_NTD.requires_grad or any(p.requires_grad for p in block.parameters())
        counted[learns and torch.is_grad_enabled()] += tokens_NTD.shape[:2].numel()

    for module in (vit, *added.modules()):
        if isinstance(module, VisionTransformer):
            module.blocks[0].register_forward_pre_hook(count)
    with torch.device("meta"):
        method.encode(vit, added, seen)
    return counted[True], counted[False]


def _one_image(
    method: Method, arch: Arch, drawn: dict[str, Tensor]
) -> tuple[VisionTransformer, nn.Module, Seen]:
    # Tensors of the meta device have no memory, and nothing is computed.
    with torch.device("meta"):
        vit = arch.build()
        added = method.added(vit)
        return vit, added, _shapes(method.wants(arch), drawn)


def _shapes(wants: Patches, drawn: dict[str, Tensor]) -> Seen:
    views, kept = wants.num_views, wants.per_view
    return Seen(
        torch.empty(1, views * kept, 3 * wants.patch_size**2),
        torch.zeros(1, views, kept, dtype=torch.long),
        {name: one.to("meta") for name, one in drawn.items()},
        None if wants.local is None else _shapes(wants.local, {}),
    )

"""Architectures by name: those of the recipes here, and every plain ViT of timm.

`NAME_nocls` is the same without [CLS]: the patches are its only tokens, its feature is their mean.
"""

import dataclasses
import functools
from typing import Any

import timm
import torch
from timm.models import VisionTransformer
from timm.models.beit import Beit
from timm.models.eva import Eva

from micl_bench.backbone.arch import Arch, Pool, Vit
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.values import shown

_MODULES = ("vision_transformer", "beit", "eva", "deit")
_EXAMPLES = "vit_tiny_patch16_224, vit_base_patch32_224, deit_small_patch16_224"


def _plain(name: str, width: int, depth: int, num_heads: int) -> Arch:
    """Return an architecture; its name, which ends in `patch16_224`, has the other sizes."""
    patch_size, img_size = map(int, name.rpartition("patch")[2].split("_"))
    return Arch(
        name=name,
        img_size=img_size,
        patch_size=patch_size,
        width=width,
        depth=depth,
        num_heads=num_heads,
    )


_KNOWN = {
    arch.name: arch
    for arch in (
        # Small enough to pre-train and evaluate in minutes on two CPU cores.
        _plain("vit_demo_patch4_32", 128, 4, 4),
        _plain("vit_small_patch16_224", 384, 12, 6),
        _plain("vit_base_patch16_224", 768, 12, 12),
        _plain("vit_large_patch16_224", 1024, 24, 16),
        _plain("vit_huge_patch14_224", 1280, 32, 16),
    )
}
_WITHOUT_CLASS = "_nocls"


def arch_names() -> list[str]:
    """Return the names that are known without timm; those of public models are timm's too."""
    return [*_KNOWN, *(f"{name}{_WITHOUT_CLASS}" for name in _KNOWN)]


def named_arch(name: str) -> Arch:
    """Return an architecture: one of `arch_names`, any plain ViT of timm, or that without [CLS].

    Raises:
        InputError: the name is unknown, or timm's model is no plain ViT; the message says why.
    """
    plain = name.removesuffix(_WITHOUT_CLASS)
    arch = _KNOWN.get(plain) or _plain_arch(plain)
    return arch if plain == name else dataclasses.replace(arch, name=name, class_token=False)


@functools.cache
def _plain_arch(name: str) -> Arch:
    known = (
        f"known: {', '.join(_KNOWN)}, and timm's plain ViTs, such as {_EXAMPLES}; NAME{_WITHOUT_CLASS} "
        "has no [CLS]"
    )
    if name not in timm.list_models():
        plain, _, tag = name.partition(".")
        if tag and plain in timm.list_models():
            raise InputError(f"{name} names weights; the architecture is called {plain}")
        raise InputError(f"no architecture is called {shown(name)}; {known}")
    try:
        model: Any = _empty(name, num_classes=0)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"timm cannot make {name} without a head; {known}") from error
    if why := _why_not_plain(model):
        raise InputError(f"timm's {name} is no plain ViT: it has {why}; {known}")
    block = model.blocks[0]
    arch = Arch(
        name=name,
        img_size=model.patch_embed.img_size[0],
        patch_size=model.patch_embed.patch_size[0],
        width=model.embed_dim,
        depth=len(model.blocks),
        num_heads=block.attn.num_heads,
        mlp_ratio=block.mlp.fc1.out_features / model.embed_dim,
        norm_eps=block.norm1.eps,
    )
    if not fits(arch, model, num_classes=0, pool="token"):
        raise InputError(
            f"timm's {name} is no plain ViT: it has other layers than norm, attention, norm and MLP "
            f"with GELU; {known}"
        )
    return arch


def _why_not_plain(model: Any) -> str:
    """Return a part of timm's model that a plain ViT lacks, by its attributes; empty for none."""
    if isinstance(model, Beit):
        return "relative positions"
    if isinstance(model, Eva):
        return "rotary positions"
    if not isinstance(model, VisionTransformer):
        return f"the layers of timm's {type(model).__name__}"
    if not hasattr(model.patch_embed, "patch_size") or hasattr(model.patch_embed, "backbone"):
        return "a convolutional network in front"
    sizes = {*model.patch_embed.patch_size}, {*(model.patch_embed.img_size or (0, 1))}
    if any(len(sides) > 1 for sides in sizes):
        return "input or patches that are not square"
    if model.cls_token is None:
        return "no [CLS]"
    if model.num_prefix_tokens > 1:
        return "registers or further tokens beside [CLS]"
    if model.pos_embed is None or model.no_embed_class:
        return "no absolute position of [CLS]"
    return ""


def timm_vit(name: str, **options: Any) -> Vit:
    """Return one of timm's ViTs without any numbers in it (on torch's `meta` device).

    Raises:
        InputError: timm has no ViT of that name.
    """
    plain = name.partition(".")[0]
    if not any(plain in timm.list_models(module=module) for module in _MODULES):
        raise InputError(
            f"no plain ViT is called {name!r}; known: {', '.join(arch_names())}, and timm's "
            "VisionTransformer, Beit and Eva"
        )
    try:
        model = _empty(name, **options)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        # A tag does not exist, or a size does not fit.
        raise InputError(f"timm cannot make {name}: {error}") from error
    if not isinstance(model, Vit) or not hasattr(model.blocks[0], "attn"):
        raise InputError(f"timm's {name} has other blocks than a plain ViT's")
    return model


def _empty(name: str, **options: Any) -> Any:
    with torch.device("meta"):
        return timm.create_model(name, **options)


def fits(arch: Arch, model: Vit, *, num_classes: int, pool: Pool) -> bool:
    """Return whether `arch` builds a model with this one's computation, from the same tensors."""
    with torch.device("meta"):
        built = arch.build_any(num_classes=num_classes, pool=pool)
    return _structure(built) == _structure(model)


def _structure(model: Vit) -> tuple[object, ...]:
    attributes = ("num_prefix_tokens", "no_embed_class", "has_class_token")
    attention = getattr(model.blocks[0].attn, "scale", None)
    shapes = tuple((name, tuple(value.shape)) for name, value in model.state_dict().items())
    return (str(model), shapes, attention, *(getattr(model, name, None) for name in attributes))

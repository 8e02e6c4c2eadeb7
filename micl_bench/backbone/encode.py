"""Encoding of the visible patches of an image alone.

Shapes: N images, P values per patch, V views, K visible patches of a view, M = V * K, D width, T tokens
of a view.
"""

import contextlib
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from timm.models import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def encode_patches(vit: VisionTransformer, visible_NMP: Tensor, keep_NVK: Tensor) -> Tensor:
    """Encode each view on its own from its patches alone (METHOD, step 2).

    The projection is one matrix product over the visible patches. Each patch keeps the position of its
    true place; [CLS], where there is one, goes in front. Under autocast the residual stream is of its
    type too.

    Returns:
        tokens_BTD before the final norm, B = N * V: [CLS] and patches, T = 1 + K, or patches alone.
    """
    return encode_tokens(vit, embed_patches(vit, visible_NMP), keep_NVK)


def embed_patches(vit: VisionTransformer, visible_NMP: Tensor) -> Tensor:
    """Project patches alone; returns tokens_NMD without positions."""
    projection = vit.patch_embed.proj
    return F.linear(visible_NMP, projection.weight.flatten(1), projection.bias)


def encode_tokens(
    vit: VisionTransformer,
    tokens_NMD: Tensor,
    keep_NVK: Tensor,
    *,
    positions_NMD: Tensor | None = None,
) -> Tensor:
    """`encode_patches` of tokens as `embed_patches` gives them, or of others in their places.

    Args:
        positions_NMD: what is added to the tokens instead of the positions of their places.
    """
    N, V, K = keep_NVK.shape
    assert vit.pos_embed is not None
    if positions_NMD is None:
        places_LD = vit.pos_embed[0, vit.num_prefix_tokens :].to(tokens_NMD.dtype)
        positions_NMD = places_LD[keep_NVK.flatten(1)]
    # Casting the positions keeps a sum with them, and so the residual stream, from widening.
    tokens_NMD = tokens_NMD + positions_NMD.to(tokens_NMD.dtype)
    D = tokens_NMD.shape[-1]
    tokens_BTD = tokens_NMD.reshape(N * V, K, D)
    if vit.cls_token is not None:
        class_D = vit.cls_token[0, 0] + vit.pos_embed[0, 0]
        class_B1D = class_D.to(tokens_NMD.dtype).expand(N * V, 1, D)
        tokens_BTD = torch.cat([class_B1D, tokens_BTD], dim=1)
    return run_blocks(vit.blocks, tokens_BTD, recompute=vit.grad_checkpointing)


def run_blocks(blocks: Iterable[nn.Module], tokens_BTD: Tensor, *, recompute: bool) -> Tensor:
    """Apply blocks in turn; with `recompute` the backward pass computes their activations again."""
    for block in blocks:
        if recompute and torch.is_grad_enabled():
            tokens_BTD = checkpoint(block, tokens_BTD, use_reentrant=False)
        else:
            tokens_BTD = block(tokens_BTD)
    return tokens_BTD


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Return a context without autocast, for what needs more digits than bfloat16 has."""
    # Tensors without numbers, on which FLOP are counted, know no autocast.
    known = device.type != "meta"
    return torch.autocast(device.type, enabled=False) if known else contextlib.nullcontext()


def view_features(vit: VisionTransformer, visible_NMP: Tensor, keep_NVK: Tensor) -> Tensor:
    """Return features_NVD, in fp32 whatever the autocast: of each view [CLS] after the final norm, or
    without [CLS] the mean of the patches after it."""
    feature_BD = class_or_mean(vit, encode_patches(vit, visible_NMP, keep_NVK))
    return feature_BD.reshape(*keep_NVK.shape[:2], -1)


def class_or_mean(vit: VisionTransformer, tokens_BTD: Tensor) -> Tensor:
    """Return feature_BD as `view_features` has it, of tokens before the final norm."""
    if vit.cls_token is None:
        return normalised(vit, tokens_BTD).mean(1)
    return normalised(vit, tokens_BTD[:, 0])


def normalised(vit: VisionTransformer, tokens: Tensor) -> Tensor:
    """Return tokens (..., D) after the final norm, in fp32 whatever the autocast; fp64 stays fp64."""
    with full_precision(tokens.device):
        wide = torch.promote_types(tokens.dtype, torch.float32)
        normed: Tensor = vit.norm(tokens.to(wide))
        return normed

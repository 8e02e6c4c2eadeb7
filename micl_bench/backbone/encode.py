"""Encoding of the visible patches of an image alone.

Shapes: N images, P values per patch, V views, K visible patches of a view, M = V * K, D width, T tokens
of a view.
"""

import contextlib

import torch
import torch.nn.functional as F
from timm.models import VisionTransformer
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def encode_patches(vit: VisionTransformer, visible_NMP: Tensor, keep_NVK: Tensor) -> Tensor:
    """Encode each view on its own from its patches alone (METHOD, step 2).

    The projection is one matrix product over the visible patches. Each patch keeps the position of its
    true place; [CLS] goes in front. Under autocast the residual stream is of its type too.

    Returns:
        tokens_BTD before the final norm, B = N * V and T = 1 + K: [CLS] and patches.
    """
    projection = vit.patch_embed.proj
    N, V, K = keep_NVK.shape
    tokens_NMD = F.linear(visible_NMP, projection.weight.flatten(1), projection.bias)
    assert vit.pos_embed is not None
    assert vit.cls_token is not None
    places_LD, class_D = vit.pos_embed[0, 1:], vit.cls_token[0, 0] + vit.pos_embed[0, 0]
    # Casting the positions keeps a sum with them, and so the residual stream, from widening.
    tokens_NMD = tokens_NMD + places_LD.to(tokens_NMD.dtype)[keep_NVK.flatten(1)]
    D = tokens_NMD.shape[-1]
    tokens_BKD = tokens_NMD.reshape(N * V, K, D)
    class_B1D = class_D.to(tokens_NMD.dtype).expand(N * V, 1, D)
    tokens_BTD = torch.cat([class_B1D, tokens_BKD], dim=1)
    for block in vit.blocks:
        if vit.grad_checkpointing and torch.is_grad_enabled():
            tokens_BTD = checkpoint(block, tokens_BTD, use_reentrant=False)
        else:
            tokens_BTD = block(tokens_BTD)
    return tokens_BTD


def view_features(vit: VisionTransformer, visible_NMP: Tensor, keep_NVK: Tensor) -> Tensor:
    """Return features_NVD: [CLS] of each view after the final norm, in fp32 whatever the autocast."""
    class_BD = encode_patches(vit, visible_NMP, keep_NVK)[:, 0]
    device = class_BD.device.type
    # Tensors without numbers, on which FLOP are counted, know no autocast.
    with contextlib.nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
        wide = torch.promote_types(class_BD.dtype, torch.float32)
        return vit.norm(class_BD.to(wide)).reshape(*keep_NVK.shape[:2], -1)

"""What the last block of a ViT attends to, exactly as it computes it.

Shapes: N images, J heads, T tokens, L patches, Y, X places of the patch grid.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from micl_bench.backbone import Vit
from micl_bench.checkpoints import Checkpoint
from micl_bench.engine.frozen.pictures.network_pictures import Arrays, as_pictures, seen_by

CLASS_QUERY, MEAN_QUERY = "[CLS]", "the mean patch"


def last_attention(vit: Vit, images_NCHW: Tensor) -> Tensor:
    """Attention weights of the last block, attention_NJTT: rows are queries, and sum to one.

    They are read where the network's own code has them, after its softmax: whatever a block does to
    queries and keys (biases, norms, rotary or relative positions) is in them.

    Args:
        images_NCHW: normalised.
    """
    module: Any = vit.blocks[-1].attn
    caught: list[Tensor] = []
    hook = module.attn_drop.register_forward_hook(lambda _, __, weights: caught.append(weights))
    fused = module.fused_attn
    try:
        # A fused kernel never has the weights as a whole.
        module.fused_attn = False
        vit.forward_features(images_NCHW)
    finally:
        module.fused_attn = fused
        hook.remove()
    (attention_NJTT,) = caught
    return attention_NJTT


def patch_attention(vit: Vit, images_NCHW: Tensor) -> Tensor:
    """Attention of [CLS] to each patch in the last block, attention_NJL.

    Without [CLS]: the mean over all patches as queries. What goes to [CLS] and registers is left out,
    so that a row sums to one less their share.
    """
    attention_NJTT, prefix = last_attention(vit, images_NCHW), vit.num_prefix_tokens
    if vit.cls_token is not None:
        return attention_NJTT[:, :, 0, prefix:]
    return attention_NJTT[:, :, prefix:, prefix:].mean(dim=2)


def attention_arrays(
    checkpoint: Checkpoint, images_NCHW: Tensor, *, device: torch.device
) -> Arrays:
    """The arrays of a picture of uint8 images: `images_NHWC`, `attention_NJYX` and the `query`.

    Raises:
        InputError: the network cannot be brought to the images' size.
    """
    attention_NJL = seen_by(checkpoint, images_NCHW, patch_attention, device=device)
    side = images_NCHW.shape[-1] // checkpoint.arch.patch_size
    return {
        "images_NHWC": as_pictures(images_NCHW),
        "attention_NJYX": attention_NJL.unflatten(2, (side, side)).float().cpu().numpy(),
        "query": np.array(CLASS_QUERY if checkpoint.arch.class_token else MEAN_QUERY),
    }

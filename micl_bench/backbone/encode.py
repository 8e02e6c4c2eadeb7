"""Encoding only the visible patches of an image, and whole images.

Shapes: N images, C channels, L patches, P values a patch, V views, K visible patches, D width.
"""

import torch
import torch.nn.functional as F
from timm.models import VisionTransformer
from torch import Tensor


def patchify(images_NCHW: Tensor, patch_size: int) -> Tensor:
    """Cut images into patches_NLP, row-major; a patch is (channel, row, column) as the projection."""
    N, C, H, W = images_NCHW.shape
    p = patch_size
    cut = images_NCHW.reshape(N, C, H // p, p, W // p, p)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(N, (H // p) * (W // p), C * p * p)


def encode_visible(vit: VisionTransformer, images_NCHW: Tensor, keep_NVK: Tensor) -> Tensor:
    """Encode each view on its own, touching only its patches (METHOD, step 2).

    Patches are gathered before the projection, which is then one matrix product over what is
    visible. Each keeps the position of its true place; [CLS] goes in front.

    Returns:
        tokens_NVTD, T = 1 + K: [CLS] and patches after the final norm.
    """
    projection = vit.patch_embed.proj
    N, V, K = keep_NVK.shape
    keep_NM = keep_NVK.reshape(N, V * K)
    patches_NLP = patchify(images_NCHW, projection.kernel_size[0])
    index_NMP = keep_NM.unsqueeze(-1).expand(-1, -1, patches_NLP.shape[-1])
    visible_NMP = torch.gather(patches_NLP, 1, index_NMP)
    tokens_NMD = F.linear(visible_NMP, projection.weight.flatten(1), projection.bias)
    assert vit.pos_embed is not None
    assert vit.cls_token is not None
    places_LD, class_D = vit.pos_embed[0, 1:], vit.cls_token[0, 0] + vit.pos_embed[0, 0]
    tokens_NMD = tokens_NMD + places_LD[keep_NM]
    D = tokens_NMD.shape[-1]
    tokens_BKD = tokens_NMD.reshape(N * V, K, D)
    tokens_BTD = torch.cat([class_D.expand(N * V, 1, D), tokens_BKD], dim=1)
    tokens_BTD = vit.norm(vit.blocks(tokens_BTD))
    return tokens_BTD.reshape(N, V, 1 + K, D)


def class_features(vit: VisionTransformer, images_NCHW: Tensor) -> Tensor:
    """[CLS] of whole, unmasked images after the final norm: features_ND."""
    return vit.forward_features(images_NCHW)[:, 0]

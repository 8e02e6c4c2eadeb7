"""From pixels of visible patches to the features that are contrasted, at a recipe's precision."""

from pathlib import Path
from typing import Any

import torch
from timm.models import VisionTransformer
from torch import Tensor, nn

from micl_bench.backbone import view_features
from micl_bench.data.pixels import IMAGENET_MEAN, IMAGENET_STD

# Up to this many tokens a view, in bfloat16 on a CPU, batched products beat torch's attention
# kernel: it is made for long sequences, and took 30 % of a step of 10-token views in a profile on a
# processor with bfloat16 instructions. In fp32 it is the faster one at these lengths too.
_SHORT_VIEW = 64


class ViewEncoder(nn.Module):
    """A ViT that takes the visible patches of views and gives their [CLS] features in fp32.

    A module of its own, so that DDP, FSDP and the FLOP counter see one forward pass.
    """

    def __init__(self, vit: VisionTransformer, *, precision: str = "fp32") -> None:
        super().__init__()
        self.vit, self.precision = vit, precision
        self.mean_P: Tensor
        self.std_P: Tensor
        per_channel = vit.patch_embed.proj.weight[0, 0].numel()
        for name, values in (("mean_P", IMAGENET_MEAN), ("std_P", IMAGENET_STD)):
            value_P = torch.tensor(values).mul(255).repeat_interleave(per_channel)
            self.register_buffer(name, value_P, persistent=False)

    def forward(self, visible_NMP: Tensor, keep_NVK: Tensor) -> Tensor:
        """features_NVD of pixels 0 .. 255 (uint8 or floating) at the places `keep_NVK`."""
        device = visible_NMP.device.type
        self._choose_attention(device, keep_NVK.shape[2] + 1)
        # One new tensor, not three: fresh memory costs more than the arithmetic.
        pixels_NMP = torch.sub(visible_NMP, self.mean_P).div_(self.std_P)
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
            return view_features(self.vit, pixels_NMP, keep_NVK)

    def _choose_attention(self, device: str, tokens: int) -> None:
        products = device == "cpu" and self.precision == "bf16" and tokens <= _SHORT_VIEW
        for block in self.vit.blocks:
            attention: Any = block.attn
            attention.fused_attn = not products


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")
    known = flags.read_text(encoding="utf-8").split() if flags.exists() else []
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(known))

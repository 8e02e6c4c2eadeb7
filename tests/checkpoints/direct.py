"""A ViT from its published equations, in plain torch, to compare converted checkpoints with.

Shapes: N images, T tokens, D width, h heads, G patches a side.
"""

import math

import torch
from torch import Tensor

State = dict[str, Tensor]


def tokens(
    state: State,
    images_NCHW: Tensor,
    *,
    heads: int,
    positions_1TD: Tensor | None = None,
    eps: float = 1e-6,
    final_norm: bool = True,
) -> Tensor:
    """Tokens after the final norm (Dosovitskiy et al. 2021), under timm's names; also layer scale
    `gamma_1` (Touvron et al. 2021)."""
    patch = state["patch_embed.proj.weight"].shape[-1]
    grid = images_NCHW.shape[-1] // patch
    rows = [
        images_NCHW[:, :, patch * y : patch * (y + 1), patch * x : patch * (x + 1)].flatten(1)
        for y in range(grid)
        for x in range(grid)
    ]
    kernel_DP = state["patch_embed.proj.weight"].flatten(1)
    x_NTD = torch.stack(rows, dim=1) @ kernel_DP.T + state["patch_embed.proj.bias"]
    if "cls_token" in state:
        x_NTD = torch.cat([state["cls_token"].expand(len(x_NTD), -1, -1), x_NTD], dim=1)
    positions_1TD = state.get("pos_embed") if positions_1TD is None else positions_1TD
    if positions_1TD is not None:
        x_NTD = x_NTD + positions_1TD
    depth = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
    for number in range(depth):
        block = {
            name.removeprefix(f"blocks.{number}."): value
            for name, value in state.items()
            if name.startswith(f"blocks.{number}.")
        }
        mixed = _attention(block, _norm(x_NTD, block, "norm1", eps), heads)
        x_NTD = x_NTD + block.get("gamma_1", torch.ones(1)) * mixed
        hidden = _linear(_norm(x_NTD, block, "norm2", eps), block, "mlp.fc1")
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
        x_NTD = x_NTD + block.get("gamma_2", torch.ones(1)) * _linear(hidden, block, "mlp.fc2")
    return _norm(x_NTD, state, "norm", eps) if final_norm else x_NTD


def _attention(block: State, x_NTD: Tensor, heads: int) -> Tensor:
    q, k, v = _linear(x_NTD, block, "attn.qkv").chunk(3, dim=-1)
    out = []
    for q_h, k_h, v_h in zip(*(x.chunk(heads, -1) for x in (q, k, v)), strict=True):
        scores = q_h @ k_h.transpose(1, 2) / math.sqrt(q_h.shape[-1])
        out.append(scores.softmax(dim=-1) @ v_h)
    return _linear(torch.cat(out, dim=-1), block, "attn.proj")


def _linear(x: Tensor, state: State, name: str) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def _norm(x: Tensor, state: State, name: str, eps: float) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + eps).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def bicubic_positions(positions_1TD: Tensor, grid: int, *, prefix: int, offset: float) -> Tensor:
    """Keys' cubic convolution with a = -0.75, sampled where a scale of (grid + offset) / G says."""
    patches = positions_1TD[0, prefix:]
    stored = math.isqrt(len(patches))
    weights_gG = torch.zeros(grid, stored)
    for place in range(grid):
        at = (place + 0.5) * stored / (grid + offset) - 0.5
        for tap in range(math.floor(at) - 1, math.floor(at) + 3):
            weights_gG[place, min(max(tap, 0), stored - 1)] += _keys(abs(at - tap))
    map_GGD = patches.reshape(stored, stored, -1)
    new_LD = torch.einsum("yY,xX,YXD->yxD", weights_gG, weights_gG, map_GGD).flatten(0, 1)
    return torch.cat([positions_1TD[:, :prefix], new_LD[None]], dim=1)


def _keys(x: float, a: float = -0.75) -> float:
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def moco_positions(grid: int, width: int) -> Tensor:
    """MoCo v3's fixed table: sin, cos of the row, then sin, cos of the column; zero for [CLS]."""
    table = torch.zeros(1, 1 + grid * grid, width)
    quarter = width // 4
    for row in range(grid):
        for column in range(grid):
            for channel in range(quarter):
                rate = 10000 ** (-channel / quarter)
                at = table[0, 1 + row * grid + column]
                at[channel], at[quarter + channel] = math.sin(row * rate), math.cos(row * rate)
                at[2 * quarter + channel] = math.sin(column * rate)
                at[3 * quarter + channel] = math.cos(column * rate)
    return table

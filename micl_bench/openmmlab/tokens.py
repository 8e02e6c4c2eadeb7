"""The tokens that timm's blocks read, made of a map of patches, for any grid and class of ViT.

Shapes: N images, h x w patches, L = h * w, P prefix tokens, T = P + L, D width.
"""

import copy
from typing import Any

import torch
from timm.layers import RotaryEmbeddingCat
from timm.models.beit import Beit
from torch import Tensor, nn

from micl_bench.backbone import Vit
from micl_bench.checkpoints import Checkpoint

# [CLS], DeiT's token of distillation, registers: in the order in which timm puts them.
_PREFIX_TOKENS = ("cls_token", "dist_token", "reg_token")


class Positions:
    """One checkpoint's absolute positions, which come to another grid by its method's own rule."""

    def __init__(self, loaded: Checkpoint, *, prefix_tokens: bool) -> None:
        """Take the rule, and the number of the table's rows that belong to prefix tokens."""
        self._rule = loaded.content.positions
        arch = loaded.arch
        has_rows = prefix_tokens and not arch.patch_positions_only
        self.num_prefix_rows = arch.num_prefix_tokens if has_rows else 0

    @property
    def fixed(self) -> bool:
        """True where the authors' code computes them for each size, so that they are not trained."""
        return self._rule.kind == "sincos"

    def at(self, positions_1TD: Tensor, grid: tuple[int, int]) -> Tensor:
        """Positions of `grid`; the stored ones where it is theirs."""
        return self._rule.brought(positions_1TD, grid, self.num_prefix_rows)


def embedded(vit: Any, map_NDhw: Tensor, positions: Positions) -> Tensor:
    """The input of timm's first block: prefix tokens and patches with their positions, (N, T, D)."""
    tokens_NTD = vit.patch_embed.norm(map_NDhw.flatten(2).transpose(1, 2))
    # Under autocast the convolution gives half precision, which the sum over all blocks shall not be
    # in; prefix tokens or positions, where there are any, widen it as they join.
    tokens_NTD = tokens_NTD.to(vit.patch_embed.proj.weight.dtype)
    stored: Tensor | None = vit.pos_embed
    h, w = map_NDhw.shape[-2:]
    here = None if stored is None else positions.at(stored, (h, w))
    if here is not None and not positions.num_prefix_rows:
        tokens_NTD = tokens_NTD + here
    prefix = [token.expand(len(tokens_NTD), -1, -1) for token in _prefix_tokens(vit).values()]
    tokens_NTD = torch.cat([*prefix, tokens_NTD], dim=1)
    if here is not None and positions.num_prefix_rows:
        tokens_NTD = tokens_NTD + here
    tokens_NTD = vit.pos_drop(tokens_NTD)
    # timm's `Beit` has no norm in front of its blocks.
    return vit.norm_pre(tokens_NTD) if hasattr(vit, "norm_pre") else tokens_NTD


def without_prefix_tokens(vit: Any) -> None:
    """Take [CLS] and registers, and their rows of the positions, out of the network."""
    if vit.pos_embed is not None and not getattr(vit, "no_embed_class", False):
        rows = vit.pos_embed.detach()[:, vit.num_prefix_tokens :].clone()
        vit.pos_embed = nn.Parameter(rows)
    for name in _prefix_tokens(vit):
        setattr(vit, name, None)
    vit.num_prefix_tokens = 0
    for block in vit.blocks:
        if hasattr(block.attn, "num_prefix_tokens"):
            # timm's attention with rotary positions does not turn the first tokens.
            block.attn.num_prefix_tokens = 0


def rotary(vit: Vit, grid: tuple[int, int]) -> list[Tensor | None]:
    """Rotary positions of the grid for each block; `None` where the ViT has none."""
    rope, depth = getattr(vit, "rope", None), len(vit.blocks)
    if rope is None:
        return [None] * depth
    if isinstance(rope, RotaryEmbeddingCat):
        # It answers for the grid that it holds, whatever it is asked; so a copy is moved to this one.
        rope = copy.deepcopy(rope)
        rope.update_feat_shape(list(grid))
        embedding = rope.get_embed()
    else:
        embedding = rope.get_embed(shape=list(grid))
    # With learned frequencies every block has its own.
    return list(embedding[:depth]) if vit.rope_mixed else [embedding] * depth


def relative_table(vit: Vit, number: int) -> Tensor | None:
    """The table of relative positions that a block adds; `None` where there is none."""
    if not isinstance(vit, Beit):
        return None
    shared = vit.rel_pos_bias
    owner: Any = vit.blocks[number].attn if shared is None else shared
    return owner.relative_position_bias_table


def without_own_bias(vit: Vit) -> None:
    """Let timm's `Beit` compute a bias of one number, as that of the map comes from elsewhere."""
    if not isinstance(vit, Beit):
        return
    for block in vit.blocks:
        attention: Any = block.attn
        if attention.relative_position_bias_table is not None:
            attention.window_size = (0, 0)
            attention.relative_position_index = torch.zeros(1, 1, dtype=torch.long)


def _prefix_tokens(vit: Vit) -> dict[str, Tensor]:
    tokens = {name: getattr(vit, name, None) for name in _PREFIX_TOKENS}
    return {name: token for name, token in tokens.items() if token is not None}

"""Position embeddings for another input size."""

from timm.layers import resample_abs_pos_embed
from torch import Tensor


def resample_positions(positions_1TD: Tensor, *, grid: int, num_prefix_tokens: int = 1) -> Tensor:
    """Resample absolute positions to a `grid` x `grid` map: bicubic, antialiased, as timm does.

    Rows of prefix tokens ([CLS]) stay. The same grid gives the same tensor.
    """
    return resample_abs_pos_embed(
        positions_1TD, new_size=[grid, grid], num_prefix_tokens=num_prefix_tokens
    )

"""Attention in windows, and with relative positions of any map, under timm's blocks as they are.

Windows are those of ViTDet (Li et al. 2022, section 3) without padding: where the map is no multiple of
the window, the windows at its right and lower edge are smaller, so no token attends to places
that are not there. (ViTDet's code pads with zeros, which take part.)

Shapes: N images, H heads, T tokens (P prefix tokens and h x w patches), d channels per head.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from micl_bench.runtime.errors import InputError


class RelativeBias:
    """The bias that a table of relative positions (BEiT) adds to attention's logits, on one map."""

    def __init__(self, table_RH: Tensor, grid: tuple[int, int]) -> None:
        """Take a table of `(2 * h - 1) * (2 * w - 1) + 3` rows, in timm's order of `Beit`."""
        rows, columns = grid
        self._grid = grid
        self._to_class_H, self._from_class_H, self._class_H = table_RH[-3:].unbind()
        offsets_HX = table_RH[:-3].transpose(0, 1)
        self._offsets_Hyx = offsets_HX.unflatten(1, (2 * rows - 1, 2 * columns - 1))

    def among(self, rows: int, columns: int, *, prefixed: bool) -> Tensor:
        """The bias of a window's tokens, [CLS] in front if `prefixed`: (1, H, T, T), queries first."""
        h, w = self._grid
        offsets_Hyx = self._offsets_Hyx[:, h - rows : h + rows - 1, w - columns : w + columns - 1]
        # [y, x, a, b] of the unfolded table is offset (y + a, x + b); a key at row y' has a = rows -
        # 1 - y', hence the flip. No table of indices as large as the attention matrix is needed.
        unfolded = offsets_Hyx.unfold(1, rows, 1).unfold(2, columns, 1).flip(3, 4)
        bias_HTT = unfolded.reshape(-1, rows * columns, rows * columns)
        if not prefixed:
            return bias_HTT[None]
        column_HT1 = self._from_class_H[:, None, None].expand(-1, rows * columns, 1)
        bias_HTT = torch.cat([column_HT1, bias_HTT], dim=2)
        return torch.cat([self.of_class(rows * columns)[0], bias_HTT], dim=1)[None]

    def of_class(self, patches: int) -> Tensor:
        """The bias of [CLS] as a query, and all tokens as keys: (1, H, 1, 1 + patches)."""
        row_H1T = self._to_class_H[:, None, None].expand(-1, 1, patches)
        return torch.cat([self._class_H[:, None, None], row_H1T], dim=2)[None]


class MapAttention(TorchFunctionMode):
    """While it is entered, attention over a map's tokens is within windows, with these biases.

    A patch attends to the prefix tokens and to the patches of its own window; prefix tokens attend
    to everything. So one window over all of the map is plain attention. Blocks stay timm's; their call
    of `scaled_dot_product_attention` is replaced.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        *,
        num_prefix_tokens: int,
        window_size: int = 0,
        bias: RelativeBias | None = None,
    ) -> None:
        """Attend in windows of `window_size` x `window_size` patches; 0 for one over the map."""
        super().__init__()
        self._grid, self._num_prefix = grid, num_prefix_tokens
        self._window_size, self._bias = window_size, bias
        self._calls = 0

    def run(self, block: Callable[[Tensor], Tensor], tokens_NTD: Tensor) -> Tensor:
        """Run a block; returns its output.

        Raises:
            InputError: timm computes its attention in another way, so nothing was replaced.
        """
        with self:
            tokens_NTD = block(tokens_NTD)
        if not self._calls:
            raise InputError(
                "timm does not use torch's fused attention here, which windows and relative "
                "positions of any map need; TIMM_FUSED_ATTN=1 turns it on"
            )
        return tokens_NTD

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Replace attention, let all else pass."""
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        self._calls += 1
        return self._attend(*args, **(kwargs or {}))

    def _attend(
        self, query_NHTd: Tensor, key_NHTd: Tensor, value_NHTd: Tensor, **options: Any
    ) -> Tensor:
        """Attention of all tokens; a mask of the block's own is for another map."""
        qkv = (query_NHTd, key_NHTd, value_NHTd)
        if self._bias is not None:
            options.pop("attn_mask", None)
        if not self._window_size:
            mask = self._mask(*self._grid)
            return F.scaled_dot_product_attention(*qkv, **_with(options, mask))
        P = self._num_prefix
        attended = self._attend_in_windows(
            tuple(tensor[:, :, P:].unflatten(2, self._grid) for tensor in qkv),
            tuple(tensor[:, :, :P] for tensor in qkv),
            options,
        )
        if not P:
            return attended
        mask = self._bias.of_class(attended.shape[2]) if self._bias else None
        prefix_NHPd = F.scaled_dot_product_attention(
            query_NHTd[:, :, :P], key_NHTd, value_NHTd, **_with(options, mask)
        )
        return torch.cat([prefix_NHPd, attended], dim=2)

    def _attend_in_windows(
        self, patches: tuple[Tensor, ...], prefixes: tuple[Tensor, ...], options: dict[str, Any]
    ) -> Tensor:
        """Attention of patches (N, H, h, w, d); windows of one size in one call, so without any mask."""
        bands = []
        for top, bottom, height in _parts(self._grid[0], self._window_size):
            groups = []
            for left, right, width in _parts(self._grid[1], self._window_size):
                cut = (tensor[:, :, top:bottom, left:right] for tensor in patches)
                query, key, value = (_split(tensor, height, width) for tensor in cut)
                windows = len(query) // len(prefixes[0])
                key, value = (
                    torch.cat([prefix.repeat_interleave(windows, dim=0), tensor], dim=2)
                    for prefix, tensor in zip(prefixes[1:], (key, value), strict=True)
                )
                mask = self._mask(height, width)
                if mask is not None:
                    mask = mask[:, :, self._num_prefix :]
                attended = F.scaled_dot_product_attention(query, key, value, **_with(options, mask))
                shape = (bottom - top, right - left)
                groups.append(_joined(attended, shape, height, width))
            bands.append(torch.cat(groups, dim=3))
        return torch.cat(bands, dim=2).flatten(2, 3)

    def _mask(self, rows: int, columns: int) -> Tensor | None:
        if self._bias is None:
            return None
        return self._bias.among(rows, columns, prefixed=self._num_prefix > 0)


def _with(options: dict[str, Any], mask: Tensor | None) -> dict[str, Any]:
    return options if mask is None else {**options, "attn_mask": mask}


def _parts(length: int, size: int) -> list[tuple[int, int, int]]:
    """(start, stop, side of a window): whole windows, then the smaller one that is left."""
    whole = length // size * size
    parts = [(0, whole, size), (whole, length, length - whole)]
    return [part for part in parts if part[0] < part[1]]


def _split(map_NHhwd: Tensor, height: int, width: int) -> Tensor:
    """Windows of height x width patches one after the other: (N * windows, H, patches, d)."""
    tiled = map_NHhwd.unflatten(3, (-1, width)).unflatten(2, (-1, height))
    return tiled.permute(0, 2, 4, 1, 3, 5, 6).flatten(4, 5).flatten(0, 2)


def _joined(windows_WHLd: Tensor, shape: tuple[int, int], height: int, width: int) -> Tensor:
    """Join the windows of `_split` to a map of this shape again."""
    counts = (-1, shape[0] // height, shape[1] // width)
    tiled = windows_WHLd.unflatten(2, (height, width)).unflatten(0, counts)
    return tiled.permute(0, 3, 1, 4, 2, 5, 6).flatten(4, 5).flatten(2, 3)

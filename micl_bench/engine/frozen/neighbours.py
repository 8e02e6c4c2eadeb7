"""The nearest of many features: an exact search in bounded memory, shared by processes.

Every query is compared with every key, in blocks of one shape, whoever computes them: a rounding
depends on the shape of a product. A block's similarities that are no better than the k-th found so
far, nearly all, are passed over before anything is sorted. Of equally similar keys the earlier counts.

Shapes: N keys, M queries, m queries at a time, D width, Q x K the size of a block, S stretches of keys,
H hits above the bar.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from micl_bench.runtime.distributed import all_rows, rank, world_size
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import Progress

# Large enough for a product's peak speed, and for few sorts.
_BLOCK_QUERIES, _BLOCK_KEYS = 512, 16384
_STRETCH = 64
# Rows that are merged at a time.
_ROWS = 4096
_MIB = 1 << 20
# Features of zeros stay zeros.
_SMALLEST_NORM = 1e-12

Neighbours = tuple[Tensor, Tensor]
"""similarity_Mk, falling, and index_Mk of keys."""


@dataclasses.dataclass(frozen=True)
class _Blocks:
    """The blocks into which a search is cut; a function of the numbers of keys and queries alone."""

    keys: int
    queries: int

    @property
    def shape(self) -> tuple[int, int]:
        """Q and K of a block."""
        stretches = -(-self.keys // _STRETCH) * _STRETCH
        return min(_BLOCK_QUERIES, self.queries), min(_BLOCK_KEYS, stretches)

    @property
    def starts(self) -> range:
        """First key of each block."""
        return range(0, self.keys, self.shape[1])

    def own(self) -> range:
        """The part of `starts` that is this process's."""
        first, end = (len(self.starts) * n // world_size() for n in (rank(), rank() + 1))
        return self.starts[first:end]

    def memory(self, *, k: int, width: int, itemsize: int = 4) -> tuple[int, int]:
        """Bytes that a search takes for any number of queries at a time, and bytes per query."""
        (Q, K), neighbours = self.shape, k * (itemsize + 8)
        # Keys as read, normalised and filled up; similarities, twice, and hits above the bar; results.
        fixed = itemsize * K * (3 * width + 3 * Q) + self.queries * neighbours
        # The query, the neighbours so far, and a copy of them as they are sorted.
        return fixed, itemsize * width + 2 * neighbours

    def queries_within(self, memory_mib: int, **sizes: int) -> int:
        """The number of queries at a time, whole blocks of them, that a budget allows; `sizes` are as
        `memory` takes them.

        Raises:
            InputError: the budget is too small for one block.
        """
        (Q, _), (fixed, each) = self.shape, self.memory(**sizes)
        fitting = (memory_mib * _MIB - fixed) // each // Q * Q
        if fitting < 1:
            least = -(-(fixed + each * Q) // _MIB)
            raise InputError(f"memory_mib is {memory_mib}; needed: at least {least}")
        return fitting


def search_bytes(keys: int, queries: int, *, width: int, k: int) -> int:
    """Memory that `nearest_keys` takes for all queries at a time, in fp32."""
    fixed, each = _Blocks(keys, queries).memory(k=k, width=width)
    return fixed + each * queries


def require_memory(keys: int, queries: int, *, k: int, width: int, memory_mib: int) -> None:
    """Raise an InputError where a budget is too small for a search in fp32."""
    _Blocks(keys, queries).queries_within(memory_mib, k=k, width=width)


def nearest_keys(
    keys_ND: Tensor,
    queries_MD: Tensor,
    *,
    k: int,
    device: torch.device,
    memory_mib: int = 2048,
    label: str = "",
) -> Neighbours:
    """The k keys with the largest cosine, for each query; on the CPU of every process.

    Bit-identical for any number of processes, each of which reads its own part of the keys, and any
    budget.

    Args:
        keys_ND: may be mapped from a file; it is read block by block, once for all queries that the
            budget allows.
        memory_mib: budget of a process for everything but the arguments.
        label: of the progress line; none is shown without.

    Raises:
        InputError: k is not from 1 to N, a feature is not finite, or the budget is too small.
    """
    blocks = _blocks(keys_ND, queries_MD, k)
    own = blocks.own()
    at_a_time = blocks.queries_within(
        memory_mib, k=k, width=keys_ND.shape[1], itemsize=keys_ND.element_size()
    )
    parts = queries_MD.split(at_a_time)
    similarity_Mk = keys_ND.new_empty(len(queries_MD), k, device="cpu")
    index_Mk = torch.empty(len(queries_MD), k, dtype=torch.int64)
    quiet, done = not label or rank() > 0, 0
    with Progress(label, total=len(parts) * len(own), quiet=quiet) as progress:
        for queries_mD in parts:
            best = _search(keys_ND, queries_mD, own, blocks, k, device, progress.step)
            rows = slice(done, done + len(queries_mD))
            similarity_Mk[rows], index_Mk[rows] = _merge(best, k)
            done += len(queries_mD)
    return similarity_Mk, index_Mk


def own_nearest_keys(keys_ND: Tensor, queries_MD: Tensor, *, k: int) -> Neighbours:
    """The same by this process alone, on the features' device, without a budget."""
    blocks = _blocks(keys_ND, queries_MD, k)
    return _search(keys_ND, queries_MD, blocks.starts, blocks, k, keys_ND.device, lambda: None)


def _blocks(keys_ND: Tensor, queries_MD: Tensor, k: int) -> _Blocks:
    if not 1 <= k <= len(keys_ND):
        raise InputError(f"k is {k}; it must be from 1 to the {len(keys_ND)} training images")
    return _Blocks(len(keys_ND), len(queries_MD))


@torch.inference_mode()
def _search(
    keys_ND: Tensor,
    queries_mD: Tensor,
    starts: range,
    blocks: _Blocks,
    k: int,
    device: torch.device,
    step: Callable[[], None],
) -> Neighbours:
    """The k nearest among the keys of some blocks, fewer than k filled up with -inf; on the CPU."""
    Q, K = blocks.shape
    parts = [_normalised(part, Q, device) for part in queries_mD.split(Q)]
    nothing = parts[0].new_full((Q, k), -torch.inf)
    best = [(nothing, torch.zeros_like(nothing, dtype=torch.int64))] * len(parts)
    similarity_QK = parts[0].new_empty(Q, K)
    for start in starts:
        keys_KD = _normalised(keys_ND[start : start + K], K, device)
        missing = max(0, start + K - len(keys_ND))
        for number, queries_QD in enumerate(parts):
            similarity_QK = torch.mm(queries_QD, keys_KD.T, out=similarity_QK)
            if missing:
                similarity_QK[:, K - missing :] = -torch.inf
            best[number] = _better(best[number], similarity_QK, start)
        step()
    similarity_mk, index_mk = (
        torch.cat([each.cpu() for each in part])[: len(queries_mD)]
        for part in zip(*best, strict=True)
    )
    return similarity_mk, index_mk


def _normalised(features_nD: Tensor, rows: int, device: torch.device) -> Tensor:
    """Unit rows, filled up with copies of the last one."""
    features_nD = features_nD.to(device)
    norm_n1 = torch.linalg.vector_norm(features_nD, dim=1, keepdim=True)
    # A row with a number that is not finite has such a norm.
    if not norm_n1.isfinite().all():
        raise InputError("a feature is not finite: the checkpoint's weights have diverged")
    unit_nD = features_nD / norm_n1.clamp_min(_SMALLEST_NORM)
    missing = rows - len(unit_nD)
    return torch.cat([unit_nD, unit_nD[-1:].expand(missing, -1)]) if missing else unit_nD


def _better(best: Neighbours, similarity_QK: Tensor, start: int) -> Neighbours:
    """The k best of those found before and a block's, whose first key is `start`."""
    found_Qk, index_Qk = best
    (Q, K), k = similarity_QK.shape, found_Qk.shape[1]
    bar_Q = found_Qk[:, -1]
    if k < K and bar_Q.isneginf().any():
        # Nothing to beat yet: then the block's own k-th, and all that equal it.
        own_Q = similarity_QK.topk(k, dim=1).values[:, -1]
        bar_Q = bar_Q.maximum(own_Q.nextafter(own_Q.new_tensor(-torch.inf)))
    # By stretches first: their maxima are a fast pass over memory, and few are above the bar.
    stretches = similarity_QK.view(Q, -1, _STRETCH)
    row_S, stretch_S = (stretches.amax(dim=2) > bar_Q[:, None]).nonzero(as_tuple=True)
    near = stretches[row_S, stretch_S]
    hit_H, column_H = (near > bar_Q[row_S, None]).nonzero(as_tuple=True)
    if len(hit_H) == 0:
        return best
    row_H = row_S[hit_H]
    key_H = start + stretch_S[hit_H] * _STRETCH + column_H
    count_Q = row_H.bincount(minlength=Q)
    place_H = torch.arange(len(row_H), device=row_H.device) - (count_Q.cumsum(0) - count_Q)[row_H]
    more = found_Qk.new_full((Q, int(count_Q.max())), -torch.inf)
    keys = torch.zeros_like(more, dtype=torch.int64)
    more[row_H, place_H], keys[row_H, place_H] = near[hit_H, column_H], key_H
    return _first_k(torch.cat([found_Qk, more], dim=1), torch.cat([index_Qk, keys], dim=1), k)


def _first_k(similarity: Tensor, index: Tensor, k: int) -> Neighbours:
    """The k largest of each row; of equal ones, those that stand first."""
    similarity, order = similarity.sort(dim=1, descending=True, stable=True)
    order_Qk = order[:, :k]
    return similarity[:, :k].contiguous(), index.gather(1, order_Qk)


def _merge(best: Neighbours, k: int) -> Neighbours:
    """The k best of all that the processes found among their own keys, on every process."""
    if world_size() == 1:
        return best
    merged = []
    for similarity_mk, index_mk in zip(*(part.split(_ROWS) for part in best), strict=True):
        # Processes own keys in the order of their ranks, so that the earlier key stands first.
        similarity, index = (
            all_rows(part).view(world_size(), len(part), k).transpose(0, 1).flatten(1)
            for part in (similarity_mk, index_mk)
        )
        merged.append(_first_k(similarity, index, k))
    similarity_Mk, index_Mk = (torch.cat(part) for part in zip(*merged, strict=True))
    return similarity_Mk, index_Mk

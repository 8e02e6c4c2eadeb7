"""Parts of methods that see some patches of an image and predict the hidden ones.

Shapes: N images, K visible patches, L patches.
"""

import torch
from torch import Tensor

from micl_bench.backbone import Arch
from micl_bench.data.visible import Patches
from micl_bench.objectives._bound import require_places
from micl_bench.objectives._objective import disjoint_views
from micl_bench.runtime.errors import InputError


def all_in_drawn_order(arch: Arch) -> Patches:
    """All patches of an image as one view, in random order: the first K are visible for any K."""
    return disjoint_views(arch, num_views=1, mask_ratio=0.0)


def then_hidden(keep_N1K: Tensor, num_patches: int, num_visible: int) -> Tensor:
    """Put the hidden patches, in ascending order, behind the visible ones; returns places_N1L.

    Raises:
        InputError: these are not `num_visible` different patches for each image.
    """
    if keep_N1K.shape[1:] != (1, num_visible):
        raise InputError(
            f"keep_NVK is {tuple(keep_N1K.shape)}; needed: one view of {num_visible} of {num_patches} "
            "patches for each image"
        )
    require_places(keep_N1K, num_patches)
    keep_NK = keep_N1K[:, 0]
    N, L = len(keep_NK), num_patches
    is_hidden_NL = torch.ones(N, L, dtype=torch.bool, device=keep_NK.device)
    is_hidden_NL.scatter_(1, keep_NK, False)
    hidden_NH = is_hidden_NL.nonzero()[:, 1].reshape(N, L - num_visible)
    return torch.cat([keep_NK, hidden_NH], dim=1).unsqueeze(1)


class BaselineWatch:
    """Warns, once, when for a whole epoch a model has predicted no better than without looking.

    That is how training starts, too: so it counts only after the warm-up, and only for an epoch without
    a break.
    """

    def __init__(
        self, baseline: str, words: str, *, warmup_steps: int, steps_per_epoch: int
    ) -> None:
        """Compare the loss with the number called `baseline`, which is that of `words`."""
        self._baseline, self._words = baseline, words
        self._warmup_steps, self._patience = warmup_steps, steps_per_epoch
        self._in_a_row = 0

    def __call__(self, step: int, numbers: dict[str, float]) -> str:
        """The warning at the step that completes the epoch; else nothing."""
        loss, baseline = numbers["loss"], numbers[self._baseline]
        blind = loss > 0.99 * baseline and step > self._warmup_steps
        self._in_a_row = self._in_a_row + 1 if blind else 0
        if self._in_a_row != self._patience:
            return ""
        return (
            f"nothing is learnt: for an epoch the loss, {loss:.3f}, has been that of {self._words}, "
            f"{baseline:.3f}; another optim.base_lr or a longer warm-up may help"
        )

"""How many bytes of tensors live while a model runs, without memory and without computing.

PyTorch's fake tensors have shapes, types and a device, and no values: every operation is traced, and
none is done. Each storage is counted from the operation that makes it until nothing refers to it,
autograd's saved tensors and checkpointed blocks included, so attention counts as the kernel that its
device would choose keeps it. Where a shape depends on values (`nonzero`, masks), all of them count.
"""

import copy
import weakref
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Module = TypeVar("Module", bound=nn.Module)

_aten = torch.ops.aten


class LiveBytes(TorchDispatchMode):
    """`with fake, LiveBytes(model) as memory:` counts what is made inside; `memory.now`, `memory.peak`.

    The module's parameters and buffers are not counted, nor gradients that they have already.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.now = self.peak = 0
        parameters = list(module.parameters())
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        own = [*parameters, *gradients, *module.buffers()]
        self._sizes = {tensor.untyped_storage()._cdata: 0 for tensor in own}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Trace one operation, and count what it made."""
        if function is _aten._local_scalar_dense.default:
            # A number that nobody knows: counts are divided by, flags say "go on".
            return 1
        if function is _aten.nonzero.default:
            made = args[0].new_empty(args[0].numel(), args[0].ndim, dtype=torch.long)
        else:
            if function is _aten.index.Tensor:
                args = (args[0], _without_masks(args[1]))
            made = function(*args, **(kwargs or {}))
        self._count(leaf for leaf in tree_leaves(made) if isinstance(leaf, Tensor))
        return made

    def _count(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._sizes:
                self._sizes[key] = storage.nbytes()
                self.now += storage.nbytes()
                weakref.finalize(storage, self._forget, key)
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


def fake_copy(module: Module, fake: FakeTensorMode, device: torch.device) -> Module:
    """A copy on the device whose parameters and buffers have no memory."""
    # What deep-copying finds here it takes for copied already; what is shared stays shared.
    copied: dict[int, Any] = {}
    with fake:
        for parameter in module.parameters():
            values = torch.empty_like(parameter, device=device, requires_grad=False)
            copied[id(parameter)] = nn.Parameter(values, requires_grad=parameter.requires_grad)
        for buffer in module.buffers():
            copied[id(buffer)] = torch.empty_like(buffer, device=device)
    return copy.deepcopy(module, copied)


def _without_masks(indices: Iterable[Tensor | None]) -> list[Tensor | None]:
    """Masks as the indices of all that they cover."""
    numbers: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype in (torch.bool, torch.uint8):
            numbers += [index.new_empty(index.numel(), dtype=torch.long)] * index.ndim
        else:
            numbers.append(index)
    return numbers

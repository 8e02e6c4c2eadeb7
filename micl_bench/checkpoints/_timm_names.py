"""What several formats share: timm's own names, the choice among networks, timm's filters."""

import dataclasses
from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn

from micl_bench.backbone import Arch, Vit
from micl_bench.checkpoints._converted import Fate
from micl_bench.checkpoints._rules import (
    Rule,
    account_filtered,
    first_key,
    keep,
    refuse_branch,
    tensors_of,
)
from micl_bench.runtime.errors import InputError

PLAIN = (
    keep(r"cls_token|pos_embed|patch_embed\.proj\.(weight|bias)|norm\.(weight|bias)"),
    keep(r"blocks\.\d+\.(norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12])\.(weight|bias)"),
)
"""A ViT whose authors started from timm's."""

FilterFn = Callable[[dict[str, Tensor], Any], dict[str, Tensor]]
Pixels = tuple[tuple[float, float, float], tuple[float, float, float]]
"""Mean and std of pixels from 0 to 1."""


def chosen(branch: str | None, known: list[str], default: str) -> str:
    """The network to read of those in a file.

    Raises:
        InputError: there is none of that name; the message lists those there are.
    """
    if not known and branch is None:
        raise InputError("the file holds no network of this format; let the format be recognised")
    if branch is None:
        return default if default in known else known[0]
    if branch not in known:
        there = ", ".join(known) if known else "one network without a name"
        raise InputError(f"the file has no branch {branch!r}; it holds: {there}")
    return str(branch)


def table_beside_averages(
    content: dict[str, Any], keys: tuple[str, ...], branch: str | None
) -> tuple[str, str, dict[str, str]]:
    """The table to read where a trainer may have saved `model_ema`, averaged weights, beside it.

    Returns:
        one of `keys`, or where the averaged weights lie for the branch `ema`; the branch's name,
        empty where there is one network; what is left out beside the table.

    Raises:
        InputError: no such branch.
    """
    key = first_key(content, *keys)
    averaged = first_key(content, "model_ema", "model_ema.module")
    if not key or not averaged:
        refuse_branch(branch)
        return key, "", {"model_ema": "averaged weights"}
    if chosen(branch, ["base", "ema"], "base") == "ema":
        return averaged, "ema", {key: "weights that are not averaged"}
    return key, "base", {"model_ema": "averaged weights"}


def pixels_of_timm(name: str) -> Pixels | None:
    """Mean and std of one of timm's pre-trained models; `None` where timm has none of that name."""
    config = timm.models.get_pretrained_cfg(name)
    if config is None:
        return None
    (red, green, blue), (of_red, of_green, of_blue) = config.mean, config.std
    return (red, green, blue), (of_red, of_green, of_blue)


def num_classes_of(state: dict[str, Tensor]) -> int:
    """Outputs of the classifier, 0 without one.

    Raises:
        InputError: its weight is no matrix.
    """
    head = state.get("head.weight")
    if head is not None and head.ndim != 2:
        raise InputError(f"the classifier's weight is {tuple(head.shape)}; a matrix is needed")
    return 0 if head is None else head.shape[0]


def empty_model(arch: Arch, *, num_classes: int = 0, pooled: bool = False) -> Vit:
    """timm's model without numbers, which timm's filters ask for shapes."""
    with torch.device("meta"):
        return arch.build_any(num_classes=num_classes, pool="avg" if pooled else "token")


def account_by_timm(
    content: dict[str, Any],
    filter_fn: FilterFn,
    model: nn.Module,
    dropped: tuple[Rule, ...],
    *,
    layout: str,
    shorten: Callable[[str], str],
    key: str = "",
    beside: dict[str, str] | None = None,
) -> tuple[dict[str, Tensor], tuple[Fate, ...]]:
    """One table of a file through timm's own `checkpoint_filter_fn`; as `account`.

    Args:
        shorten: takes prefixes off a name, which the filter does not expect.

    Raises:
        InputError: two tensors of one name, or one that the filter lost and `dropped` does not know.
    """
    tensors = tensors_of(content, key)
    stored: dict[str, str] = {}
    for name in tensors:
        if stored.setdefault(shorten(name), name) != name:
            raise InputError(f"{layout}: two tensors of the file are both {shorten(name)}")
    plain = {short: tensors[name] for short, name in stored.items()}
    state, fates = account_filtered(
        _with_table(content, key, plain),
        filter_fn(dict(plain), model),
        dropped,
        layout=layout,
        key=key,
        beside=beside,
    )
    return state, tuple(
        dataclasses.replace(fate, name=stored.get(fate.name, fate.name), kind=_kind(fate, stored))
        for fate in fates
    )


def filtered_by_timm(
    content: dict[str, Any],
    filter_fn: FilterFn,
    model: nn.Module,
    dropped: tuple[Rule, ...],
    *,
    layout: str,
    shorten: Callable[[str], str],
    key: str = "",
    beside: dict[str, str] | None = None,
) -> tuple[dict[str, Tensor], tuple[Fate, ...]]:
    """The same where everything that `model` has no place for must match a rule of `dropped`.

    Raises:
        InputError: a tensor that neither timm's model nor `dropped` knows.
    """

    def without_dropped(tensors: dict[str, Tensor], model: Any) -> dict[str, Tensor]:
        return {
            name: value
            for name, value in filter_fn(tensors, model).items()
            if not any(rule.pattern.fullmatch(name) for rule in dropped)
        }

    state, fates = account_by_timm(
        content,
        without_dropped,
        model,
        dropped,
        layout=layout,
        shorten=shorten,
        key=key,
        beside=beside,
    )
    unplaced = state.keys() - model.state_dict().keys()
    surplus = sorted(fate.name for fate in fates if unplaced & set(fate.target.split(", ")))
    if surplus:
        shown = ", ".join(surplus[:5]) + (f" and {len(surplus) - 5} more" if surplus[5:] else "")
        raise InputError(f"tensors that are not known to the layout {layout}: {shown}")
    return state, fates


def _with_table(content: dict[str, Any], key: str, table: dict[str, Tensor]) -> dict[str, Any]:
    """A copy with another table under `key`, which may be nested."""
    top, _, rest = key.partition(".")
    return {**content, top: _with_table(content[top], rest, table)} if key else dict(table)


def _kind(fate: Fate, stored: dict[str, str]) -> Any:
    """`renamed` where only the prefix went."""
    prefixed = stored.get(fate.name, fate.name) != fate.name
    return "renamed" if fate.kind == "used" and prefixed else fate.kind

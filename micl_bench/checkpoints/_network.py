"""Conversion of one of the networks in a file, which most layouts leave to this module."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import timm
from torch import Tensor

from micl_bench.checkpoints._converted import Converted, Fate, Guess
from micl_bench.checkpoints._infer import assumed, infer_arch
from micl_bench.checkpoints._options import Pixels, stated_arch
from micl_bench.checkpoints._rules import Rule, account, first_key, keep, tensors_of
from micl_bench.runtime.errors import InputError

PLAIN = (
    keep(r"cls_token|pos_embed|patch_embed\.proj\.(weight|bias)|norm\.(weight|bias)"),
    keep(r"blocks\.\d+\.(norm[12]|attn\.qkv|attn\.proj|mlp\.fc[12])\.(weight|bias)"),
)
"""Rules for a ViT whose authors started from timm's."""


@dataclass(frozen=True)
class Network:
    """The place of one of the networks of a file."""

    branch: str = ""
    """Its name for `--branch`; empty where it is the only one."""
    key: str = ""
    """Key of its table, as `tensors_of` takes it."""
    prefix: str = ""
    """Pattern of the beginning of its tensors' names."""

    def names(self, content: dict[str, Any]) -> set[str]:
        """Return the names of its tensors, without the prefix."""
        names = tensors_of(content, self.key)
        matches = ((name, re.match(self.prefix, name)) for name in names)
        return {name[match.end() :] for name, match in matches if match}

    def has_blocks(self, content: dict[str, Any]) -> bool:
        """Return whether it is a ViT under timm's names."""
        return any(name.startswith("blocks.") for name in self.names(content))


def tables(content: dict[str, Any], *keys: str, prefix: str = "") -> list[Network]:
    """Return a network for each of these tables that holds tensors, named as its table."""
    return [Network(key, key, prefix) for key in keys if tensors_of(content, key)]


def one_table(content: dict[str, Any], *keys: str, prefix: str = "") -> Network:
    """Return the only network of a file: in the first of these tables with tensors, or in none."""
    return Network("", first_key(content, *keys), prefix)


def distilled_teacher(content: dict[str, Any]) -> Network:
    """Return the network of DINOv2's code and its descendants: bare, or in a table `teacher`."""
    prefix = r"(backbone\.)?"
    teacher = tables(content, "teacher", prefix=prefix)
    return teacher[0] if teacher else one_table(content, "model", "state_dict", prefix=prefix)


def beside_averages(content: dict[str, Any], *keys: str) -> list[Network]:
    """Return `base` in one of these tables, and `ema`, averaged weights, where a trainer saved both."""
    key, averaged = first_key(content, *keys), first_key(content, "model_ema", "model_ema.module")
    if key and averaged:
        return [Network("base", key), Network("ema", averaged)]
    return [Network("", key)]


def chosen(networks: list[Network], branch: str | None) -> Network:
    """Return the network of that branch, or the first for None.

    Raises:
        InputError: there is none; the message lists the branches there are.
    """
    if not networks and branch is None:
        raise InputError("the file holds no network of this format; let the format be recognised")
    for network in networks:
        if branch in (None, network.branch):
            return network
    names = dict.fromkeys(network.branch for network in networks if network.branch)
    raise InputError(
        f"the file has no branch {branch!r}; it holds {', '.join(names) or 'one network'}"
    )


def convert_network(
    content: dict[str, Any],
    rules: tuple[Rule, ...],
    networks: list[Network],
    *,
    layout: str,
    arch: str | None,
    branch: str | None,
    beside: dict[str, str] | None = None,
    known_arch: Callable[[dict[str, Tensor]], str | None] = lambda state: None,
    norm_eps: float = 1e-6,
    widths: Collection[int] = (),
    is_open: bool = False,
    folds_class_position: bool = False,
    guesses: tuple[Guess, ...] = (),
    **fields: Any,
) -> Converted:
    """Choose a network, give its tensors timm's names, and infer its architecture from them.

    Args:
        networks: the networks of the file, the default first.
        arch, branch: the user's words.
        beside: as for `account`.
        known_arch: gives what the layout knows of the architecture, in the words of `arch`.
        norm_eps: epsilon of the norms in the layout's code.
        widths, is_open: as for `assumed`.
        folds_class_position: positions have a row for [CLS] and none for registers, as in DINOv2's code.
        guesses: assumptions beyond the architecture.
        fields: fields of `Converted`. By default the head is on the patches' mean where the norm is
            behind the pooling or there is no [CLS].

    Raises:
        InputError: as `chosen`, `account` and `infer_arch`.
    """
    network = chosen(networks, branch)
    state, fates = account(
        content, rules, layout=layout, key=network.key, prefix=network.prefix, beside=beside
    )
    if folds_class_position and "reg_token" in state:
        state, fates = _fold_class_position(state, fates)
    wanted = _wanted(arch, known_arch(state))
    sizes = infer_arch(state, arch=wanted, norm_eps=norm_eps)
    is_pooled = "fc_norm.weight" in state or not sizes.class_token
    fields = {"method": "", "pool": "avg" if is_pooled else "token", **fields}
    return Converted(
        arch=sizes,
        state=state,
        num_classes=num_classes_of(state),
        fates=fates,
        branch=network.branch,
        guesses=(*assumed(sizes, wanted, widths=widths, is_open=is_open), *guesses),
        **fields,
    )


def _wanted(arch: str | None, known: str | None) -> str | None:
    """Join the user's words on the architecture with what the layout knows beyond them."""
    if arch is None or known is None:
        return arch or known
    stated = stated_arch(arch)
    return arch if stated.name or stated.heads else f"{known},{arch}"


def width_of(state: dict[str, Tensor]) -> int:
    """Return the network's width, by its projection of patches; 0 without one."""
    return len(state.get("patch_embed.proj.weight", ()))


def num_classes_of(state: dict[str, Tensor]) -> int:
    """Return the number of the classifier's outputs, 0 without one.

    Raises:
        InputError: its weight is no matrix.
    """
    head = state.get("head.weight")
    if head is not None and head.ndim != 2:
        raise InputError(f"the classifier's weight is {tuple(head.shape)}; a matrix is needed")
    return 0 if head is None else head.shape[0]


def pixels_of_timm(name: str) -> Pixels | None:
    """Return mean and std of one of timm's pre-trained models; None where timm has no such name."""
    config = timm.models.get_pretrained_cfg(name)
    return (tuple(config.mean), tuple(config.std)) if config else None  # type: ignore[return-value]


def _fold_class_position(
    state: dict[str, Tensor], fates: tuple[Fate, ...]
) -> tuple[dict[str, Tensor], tuple[Fate, ...]]:
    """Add the position of [CLS] to it, as timm's registers stand between it and the patches."""
    three = [state.get(name) for name in ("reg_token", "cls_token", "pos_embed")]
    if any(value is None or value.ndim != 3 for value in three):
        raise InputError("the tensors are no DINOv2's: tokens or positions are misshapen")
    positions = state["pos_embed"]
    folded = {
        **state,
        "cls_token": state["cls_token"] + positions[:, :1],
        "pos_embed": positions[:, 1:].contiguous(),
    }
    reasons = {
        "cls_token": "with its position added",
        "pos_embed": "the first row is added to cls_token",
    }
    return folded, tuple(
        Fate(fate.name, fate.kind, fate.target, reasons.get(fate.target, fate.reason))
        for fate in fates
    )

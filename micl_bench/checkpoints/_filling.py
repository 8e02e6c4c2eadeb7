"""timm's models filled with a checkpoint's tensors: every parameter, or an error that names it."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from micl_bench.backbone import Vit
from micl_bench.checkpoints._converted import Converted
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.wording import first_few

# Not part of the backbone: a classifier's head, its own norm and its own pooling.
_HEAD_PREFIXES = ("head.", "head_dist.", "fc_norm.", "attn_pool.")


def require_whole(content: Converted, source: str) -> None:
    """Check that tensors fill backbone and head, and are numbers, without building either.

    Raises:
        InputError: a parameter would stay unfilled, a tensor is left over or of another shape, or holds
            NaN or infinity; the message lists them.
    """
    state, depth = content.state, content.arch.depth
    blocks = {name.split(".")[1] for name in state if name.startswith("blocks.")}
    if len(blocks) != depth:
        raise InputError(f"{source} has tensors of {len(blocks)} blocks, not of {depth}")
    _fitting(content.arch.build_any, without_head(state), source)
    if content.num_classes:
        _fitting(lambda: classifier_of(content), state, source)
    read = (*state.items(), *content.beside.items())
    if broken := [name for name, value in read if not _is_finite(value)]:
        raise InputError(
            f"{source} holds NaN or infinity in {first_few(broken)}; its training failed, or the file "
            "is damaged"
        )


def without_unread_head(content: Converted) -> Converted:
    """Leave out a head that timm's ViT does not have: pooling by attention, two heads, two norms.

    Its tensors get that fate. A norm behind the pooling stays where there is no other.
    """
    expected = set(without_head(content.state))
    if content.num_classes:
        with torch.device("meta"):
            expected = set(classifier_of(content).state_dict())
    surplus = content.state.keys() - expected
    if not any(name.startswith((*_HEAD_PREFIXES, "norm.")) for name in surplus):
        return content
    has_norm = "norm.weight" in content.state
    kept = {
        name: value
        for name, value in content.state.items()
        if not name.startswith(_HEAD_PREFIXES) or (name.startswith("fc_norm.") and not has_norm)
    }
    fates = tuple(
        dataclasses.replace(fate, kind="left out", target="", reason="head of another kind")
        if fate.target and not set(fate.target.split(", ")) & kept.keys()
        else fate
        for fate in content.fates
    )
    return dataclasses.replace(content, state=kept, num_classes=0, classes=(), fates=fates)


def classifier_of(content: Converted) -> Vit:
    """Return timm's model with a head of the stored one's shape, not filled yet."""
    return content.arch.build_any(num_classes=content.num_classes, pool=content.pool)


def without_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the backbone's tensors; a norm that moved behind the pooling moves back."""
    kept = {name: value for name, value in state.items() if not name.startswith(_HEAD_PREFIXES)}
    for part in ("weight", "bias"):
        if f"norm.{part}" not in kept and f"fc_norm.{part}" in state:
            kept[f"norm.{part}"] = state[f"fc_norm.{part}"]
    return kept


def filled(build: Callable[[], Vit], state: dict[str, Tensor], source: str) -> Vit:
    """Return the model with these tensors, in eval mode."""
    model = _fitting(build, state, source)
    if any(True for _ in model.buffers()):
        # Fixed tables are computed while a model is built; `meta` computes nothing.
        model = build()
        model.load_state_dict(state)
    else:
        expected = model.state_dict()
        copies = {name: value.to(expected[name].dtype, copy=True) for name, value in state.items()}
        model.load_state_dict(copies, assign=True)
    return model.eval()


def _fitting(build: Callable[[], Vit], state: dict[str, Tensor], source: str) -> Vit:
    """Return the model on `meta`, as random numbers would take seconds, once the tensors fit it."""
    with torch.device("meta"):
        model = build()
    expected = model.state_dict()
    problems = [f"missing {name}" for name in sorted(expected.keys() - state.keys())]
    problems += [f"unexpected {name}" for name in sorted(state.keys() - expected.keys())]
    problems += [
        f"{name} is {tuple(state[name].shape)}, needed {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    if problems:
        raise InputError(f"{source} does not fit the architecture: {first_few(problems, '; ')}")
    return model


def _is_finite(value: Tensor) -> bool:
    # A sum is quick; where it is not finite, each number is asked.
    return bool(value.sum().isfinite()) or bool(value.isfinite().all())

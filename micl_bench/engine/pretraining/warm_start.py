"""Warm start: pre-training begins with the backbone of a checkpoint of any format that is read.

The objective's own modules (a decoder, heads, a momentum twin) begin with those in the file where it
holds them under the names that the objective states (`Objective.in_files`) and in its sizes; else they
start anew.
"""

import collections
import dataclasses
from collections.abc import Mapping

from timm.models import VisionTransformer
from torch import nn

from micl_bench.backbone import Arch
from micl_bench.checkpoints import Checkpoint, load_checkpoint
from micl_bench.data.pixels import IMAGENET_MEAN, IMAGENET_STD
from micl_bench.objectives import Objective, fill_own
from micl_bench.records.weights import Stage
from micl_bench.runtime.errors import InputError, UnstatedError
from micl_bench.runtime.wording import counted, first_few

# The recipe says these in any case, or they may differ.
_NOT_COMPARED = ("name", "img_size", "norm_eps")


def load_start(
    source: str,
    arch: Arch,
    *,
    layout: str | None = None,
    branch: str | None = None,
    beside: Mapping[str, str] | None = None,
) -> Checkpoint:
    """Read the checkpoint that a backbone of this architecture starts from; the source, its format,
    branch and further tensors are as `load_checkpoint` takes them.

    Raises:
        InputError: as `load_checkpoint`, or its backbone has other sizes; the message lists them.
    """
    try:
        found = load_checkpoint(source, layout=layout, branch=branch, beside=beside)
    except UnstatedError:
        # The recipe says what the file does not; with which pixels it was trained plays no part.
        found = load_checkpoint(
            source,
            arch=f"heads={arch.num_heads}",
            layout=layout,
            branch=branch,
            pixels="imagenet",
            beside=beside,
        )
    heads = {"num_heads": arch.num_heads} if "heads" in found.content.guesses else {}
    theirs, ours = dataclasses.asdict(found.arch) | heads, dataclasses.asdict(arch)
    differ = [name for name in ours if name not in _NOT_COMPARED and theirs[name] != ours[name]]
    if differ:
        listed = "; ".join(f"{name} {theirs[name]}, needed {ours[name]}" for name in differ)
        raise InputError(f"--init {source} does not fit {arch.name}: {listed}")
    found.input_size(arch.img_size)
    return found


def begin_with(vit: VisionTransformer, start: Checkpoint) -> None:
    """Fill a ViT in place, positions resampled as in evaluation."""
    size = vit.patch_embed.img_size
    assert size is not None
    vit.load_state_dict(start.backbone(img_size=size[0]).state_dict())


def begin_own_with(
    objective: Objective, vit: VisionTransformer, added: nn.Module, start: Checkpoint
) -> str:
    """Fill an objective's modules in place where the file holds them in its sizes; returns words on the
    tensors that were taken, of the backbone too, and on those that were left."""
    content, expected, needed = start.content, vit.state_dict(), added.state_dict()
    own = objective.fitted(content.beside, vit)
    problems = fill_own(added, own)
    taken = content.beside_fates if own and not problems else frozenset()
    left = [
        fate.reason or "not of a backbone"
        for fate in content.fates
        if not fate.target and fate.name not in taken
    ]
    left += ["head"] * len(content.state.keys() - expected.keys())
    counts = collections.Counter(left)
    listed = ", ".join(f"{number} ({reason})" for reason, number in counts.items())
    words = [f"{len(expected)} tensors of the backbone"]
    words += [f"{counted(len(own), 'tensor')} of {objective.name}'s own modules"] if taken else []
    said = f"{' and '.join(words)} taken, {listed or 'none'} left"
    anew = sorted(
        {name.partition(".")[0] for name in needed.keys() - (own if taken else {}).keys()}
    )
    if problems:
        said += f"; {objective.name}'s own modules start anew, as {first_few(problems, '; ')}"
    elif anew:
        said += f"; {', '.join(anew)} of {objective.name} start anew"
    return f"({start.info.format}, {start.method}): {said}"


def as_start(start: Checkpoint) -> Checkpoint:
    """The checkpoint as the start of a later one, with which that is saved: its stages go on from here,
    and its pixels are those of pre-training."""
    content = dataclasses.replace(
        start.content,
        origin=start.content.origin or (_unknown(start),),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        guesses=tuple(one for one in start.content.guesses if one in ("grid", "positions")),
    )
    return dataclasses.replace(start, content=content)


def _unknown(start: Checkpoint) -> Stage:
    """The first stage of a file that does not name its trainings: these very weights."""
    settings = {"task": "initialise", "weights": start.info.digest, "branch": start.content.branch}
    return Stage.of("initialise", start.method, settings, seed=0)

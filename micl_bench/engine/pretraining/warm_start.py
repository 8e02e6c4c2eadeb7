"""Warm start: pre-training begins with the backbone of a checkpoint of any format that is read.

The backbone alone is taken: the objective's own modules (a decoder, heads, a momentum twin) start anew.
"""

import collections
import dataclasses

from timm.models import VisionTransformer

from micl_bench.backbone import Arch
from micl_bench.checkpoints import Checkpoint, load_checkpoint
from micl_bench.data.pixels import IMAGENET_MEAN, IMAGENET_STD
from micl_bench.records.weights import Stage
from micl_bench.runtime.errors import InputError, UnstatedError

# The recipe says these in any case, or they may differ.
_NOT_COMPARED = ("name", "img_size", "norm_eps")


def load_start(
    source: str, arch: Arch, *, layout: str | None = None, branch: str | None = None
) -> Checkpoint:
    """Read the checkpoint that a backbone of this architecture starts from; the source, its format and
    branch are as `load_checkpoint` takes them.

    Raises:
        InputError: as `load_checkpoint`, or its backbone has other sizes; the message lists them.
    """
    try:
        found = load_checkpoint(source, layout=layout, branch=branch)
    except UnstatedError:
        # The recipe says what the file does not; with which pixels it was trained plays no part.
        found = load_checkpoint(
            source,
            arch=f"heads={arch.num_heads}",
            layout=layout,
            branch=branch,
            pixels="imagenet",
        )
    heads = {"num_heads": arch.num_heads} if "heads" in found.content.guesses else {}
    theirs, ours = dataclasses.asdict(found.arch) | heads, dataclasses.asdict(arch)
    differ = [name for name in ours if name not in _NOT_COMPARED and theirs[name] != ours[name]]
    if differ:
        listed = "; ".join(f"{name} {theirs[name]}, needed {ours[name]}" for name in differ)
        raise InputError(f"--init {source} does not fit {arch.name}: {listed}")
    found.input_size(arch.img_size)
    return found


def begin_with(vit: VisionTransformer, start: Checkpoint) -> str:
    """Fill a ViT in place, positions resampled as in evaluation; returns words on the tensors that were
    taken and left."""
    size = vit.patch_embed.img_size
    assert size is not None
    backbone = start.backbone(img_size=size[0]).state_dict()
    vit.load_state_dict(backbone)
    left = [fate.reason or "not of a backbone" for fate in start.content.fates if not fate.target]
    left += ["head"] * len(start.content.state.keys() - backbone.keys())
    counts = collections.Counter(left)
    listed = ", ".join(f"{number} ({reason})" for reason, number in counts.items())
    return (
        f"({start.info.format}, {start.method}): {len(backbone)} tensors of the backbone taken, "
        f"{listed or 'none'} left"
    )


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

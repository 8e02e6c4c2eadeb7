"""Warm start: pre-training begins with the backbone of a checkpoint of any format that is read."""

import collections
import dataclasses

from timm.models import VisionTransformer

from micl_bench.backbone import Arch
from micl_bench.checkpoints import Checkpoint, load_checkpoint
from micl_bench.data.pixels import IMAGENET_MEAN, IMAGENET_STD
from micl_bench.records.result import Stage
from micl_bench.runtime.errors import InputError, UntoldError
from micl_bench.runtime.files import digest_json

# What the recipe says in any case, or what may differ.
_NOT_COMPARED = ("name", "img_size", "norm_eps")


def load_start(
    source: str, arch: Arch, *, layout: str | None = None, branch: str | None = None
) -> Checkpoint:
    """The checkpoint that a backbone of this architecture starts from; the source, its format and branch
    are as of `load_checkpoint`.

    Raises:
        InputError: as `load_checkpoint`, or its backbone has other sizes; the message lists them.
    """
    try:
        found = load_checkpoint(source, layout=layout, branch=branch)
    except UntoldError:
        # What its file does not tell, the recipe does; its pixels were others', whatever they were.
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
    """Fill a ViT in place, positions resampled as evaluation does; returns what was taken and what was
    left, in a line."""
    size = vit.patch_embed.img_size
    assert size is not None
    backbone = start.backbone(img_size=size[0]).state_dict()
    vit.load_state_dict(backbone)
    left = [fate.reason or "not of a backbone" for fate in start.content.fates if not fate.target]
    left += ["head"] * len(start.content.state.keys() - backbone.keys())
    counts = collections.Counter(left)
    listed = ", ".join(f"{number} ({reason})" for reason, number in counts.items())
    return (
        f"starting from {start.info.source} ({start.info.format}, {start.method}): {len(backbone)} "
        f"tensors of the backbone taken, {listed or 'none'} left"
    )


def as_start(start: Checkpoint) -> Checkpoint:
    """The checkpoint as what a later one is saved with: what it went through is told from the first
    stage on, and its pixels are those of pre-training."""
    content = dataclasses.replace(
        start.content,
        origin=start.content.origin or (_unknown(start),),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        guesses=tuple(one for one in start.content.guesses if one in ("grid", "positions")),
    )
    return dataclasses.replace(start, content=content)


def _unknown(start: Checkpoint) -> Stage:
    """For a file that does not tell its trainings: these very weights, whatever made them."""
    settings = {"task": "initialise", "weights": start.info.digest, "branch": start.content.branch}
    return Stage(
        task="initialise",
        method=start.method,
        fingerprint=digest_json(settings),
        seed=0,
        epochs=0,
        data="",
        data_digest="",
        settings=settings,
    )

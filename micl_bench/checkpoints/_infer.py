"""Inference of the architecture from the shapes of tensors under timm's names.

    arch = infer_arch(state, arch=arch, norm_eps=1e-6)

`state` holds the tensors that `account` gives: `patch_embed.proj.weight`, `cls_token`, `pos_embed`,
`blocks.0.norm1.weight`, ... Registers are `reg_token`; layer scale is `ls1.gamma`
(`VisionTransformer`) or `gamma_1` (`Beit`, DeiT III); relative positions are
`blocks.N.attn.relative_position_bias_table` or `rel_pos_bias.relative_position_bias_table`.
"""

import dataclasses
import math
import re
from collections.abc import Collection
from typing import Any

from torch import Tensor

from micl_bench.backbone import Arch, Pool, Vit, arch_names, fits, named_arch, timm_vit
from micl_bench.checkpoints._converted import Guess
from micl_bench.checkpoints._options import StatedArch, stated_arch
from micl_bench.runtime.errors import InputError, UnstatedError

_HEAD_WIDTH = 64
# Every one is built; the deepest that was published has 56.
_MOST_BLOCKS = 256
# No file holds the number of heads; every published ViT of these widths (timm's so400m, huge, giant
# and gigantic, as those of MAE and I-JEPA) has 16 instead of width / 64.
_SIXTEEN_HEADS = (1152, 1280, 1408, 1664)
# Width, depth, patch and grid: plain ViTs that have no position for [CLS] nevertheless.
_FLEXIVITS = {(384, 12, 16, 15), (768, 12, 16, 15), (1024, 24, 16, 15)}
WIDTHS = (192, 384, 768, 1024, 1280, 1408)
"""Widths of the networks that the code of most methods builds, all with the usual heads."""


def infer_arch(
    state: dict[str, Tensor], *, arch: str | None = None, norm_eps: float = 1e-6
) -> Arch:
    """Return the ViT that these tensors fill; further ones (heads) are ignored.

    Args:
        arch: a name that `named_arch` knows or a ViT of timm, for all that shapes do not show: the
            number of heads, which is width / 64 without it (16 in the published giants; tables of
            relative positions show it), and parts of timm's model (gated MLPs, rotary positions).
        norm_eps: epsilon of the norms in the method's own code; timm's where `arch` is timm's.

    Raises:
        InputError: the tensors are no ViT's on square images; `arch` is unknown, or of other sizes.
        UnstatedError: only `arch` can state it.
    """
    stated = stated_arch(arch)
    is_relative = any(name.endswith("relative_position_bias_table") for name in state)
    if stated.name is not None and stated.name not in arch_names() and not is_relative:
        return _with_values(_timm_arch(state, stated.name), stated)
    try:
        found = _from_shapes(state, stated.norm_eps or norm_eps, stated)
    except InputError:
        raise
    except (IndexError, KeyError, ValueError) as error:
        raise InputError(f"the tensors are no ViT's: {error} is missing or misshapen") from error
    if stated.name is None:
        if "blocks.0.gamma_1" in state and not is_relative:
            raise UnstatedError(
                "its layer scale is called gamma_1, as in DeiT III's files and in those of timm's "
                "ViTs with rotary positions, which no tensor betrays; give --arch "
                "deit3_small_patch16_224 or --arch vit_small_patch16_rope_ape_224, or timm's name "
                "of its size"
            )
        return found
    named = arch_of(timm_vit(stated.name), stated.name) if is_relative else named_arch(stated.name)
    for field in ("width", "depth", "patch_size", *(["num_heads"] if is_relative else [])):
        if getattr(named, field) != getattr(found, field):
            raise InputError(
                f"the file's {field} is {getattr(found, field)}, not the {getattr(named, field)} of "
                f"{stated.name}"
            )
    return _with_values(
        dataclasses.replace(found, name=named.name, num_heads=named.num_heads), stated
    )


def assumed(
    found: Arch, arch: str | None, *, widths: Collection[int] = (), is_open: bool = False
) -> tuple[Guess, ...]:
    """Return the parts of an inferred architecture that nobody states.

    Args:
        widths: the widths of networks that the layout's own code builds, whose heads are known.
        is_open: the layout leaves the norms' epsilon open, and where positions lie.
    """
    stated = stated_arch(arch)
    if found.timm_name or stated.name is not None:
        return ()
    is_known = found.width in widths or found.relative_positions or stated.heads is not None
    asked: dict[Guess, bool] = {
        "heads": not is_known,
        "norm_eps": is_open and stated.norm_eps is None,
        "grid": is_open and found.patch_positions_only and stated.grid is None,
    }
    return tuple(guess for guess, is_one in asked.items() if is_one)


def _with_values(arch: Arch, stated: StatedArch) -> Arch:
    """Take the single values that the user states, where timm's model has none of its own."""
    values = (("num_heads", stated.heads), ("norm_eps", stated.norm_eps))
    changed: dict[str, Any] = {
        name: value for name, value in values if value not in (None, getattr(arch, name))
    }
    if changed and (arch.timm_name or arch.relative_positions):
        raise InputError(f"--arch: {arch.name} has values of its own; give its name alone")
    return with_heads(dataclasses.replace(arch, **changed), arch.num_heads)


def with_heads(arch: Arch, usual: int) -> Arch:
    """Return the architecture once its heads divide its width; `usual` is for the message."""
    if arch.num_heads < 1 or arch.width % arch.num_heads:
        raise InputError(
            f"{arch.num_heads} heads do not divide a width of {arch.width}; usual there: {usual}"
        )
    return arch


def _from_shapes(state: dict[str, Tensor], norm_eps: float, stated: StatedArch) -> Arch:
    width, channels, patch, columns = state["patch_embed.proj.weight"].shape
    if channels != 3 or patch != columns:
        raise InputError(f"patches of {channels} x {patch} x {columns}; needed 3 x p x p")
    hidden, depth = state["blocks.0.mlp.fc1.weight"].shape[0], _depth(state)
    if state["blocks.0.mlp.fc2.weight"].shape[1] != hidden or "blocks.0.mlp.fc1_g.weight" in state:
        raise UnstatedError("its MLPs are gated; give --arch with the name of timm's model")
    per_block = state.get("blocks.0.attn.relative_position_bias_table")
    shared = state.get("rel_pos_bias.relative_position_bias_table")
    table = shared if per_block is None else per_block
    class_token = "cls_token" in state
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    grid, patches_only = _grid(state, int(class_token), registers, table, stated.grid)
    beit = table is not None
    heads = stated.heads if table is None and stated.heads else None
    found = Arch(
        name=f"vit_w{width}_d{depth}_patch{patch}_{grid * patch}",
        img_size=grid * patch,
        patch_size=patch,
        width=width,
        depth=depth,
        num_heads=heads or (_usual_heads(width) if table is None else table.shape[1]),
        mlp_ratio=_ratio(hidden, width),
        class_token=class_token,
        num_registers=registers,
        layer_scale="blocks.0.gamma_1" in state or "blocks.0.ls1.gamma" in state,
        qkv_bias=f"blocks.0.attn.{'q_bias' if beit else 'qkv.bias'}" in state,
        patch_positions_only=patches_only,
        absolute_positions="pos_embed" in state,
        relative_positions="" if not beit else "block" if shared is None else "shared",
        norm_eps=norm_eps,
    )
    return with_heads(found, math.gcd(found.width, found.width // _HEAD_WIDTH or 1))


def _usual_heads(width: int) -> int:
    """Return the heads of published ViTs of this width, and width / 64 of others."""
    if width in _SIXTEEN_HEADS:
        return 16
    if width % _HEAD_WIDTH:
        raise UnstatedError(
            f"width {width} is no multiple of {_HEAD_WIDTH}; give its number of heads with --arch "
            "heads=N"
        )
    return width // _HEAD_WIDTH


def _depth(state: dict[str, Tensor]) -> int:
    found = {int(match[1]) for name in state if (match := re.match(r"blocks\.(\d{1,9})\.", name))}
    if len(found) > _MOST_BLOCKS:
        raise InputError(f"{len(found):,} blocks; at most {_MOST_BLOCKS} are read")
    missing = sorted(set(range(len(found))) - found)
    if missing:
        raise InputError(
            f"of {len(found)} blocks, up to block {max(found)}, block {missing[0]} is missing"
        )
    return len(found)


def _grid(
    state: dict[str, Tensor],
    class_token: int,
    registers: int,
    table: Tensor | None,
    stated: int | None,
) -> tuple[int, bool]:
    """Return the patches per side, and whether absolute positions lack rows for prefix tokens."""
    if "pos_embed" not in state:
        if table is None:
            raise UnstatedError("the file has neither absolute nor relative positions; give --arch")
        side = math.isqrt(table.shape[0] - 3)
        if side * side != table.shape[0] - 3 or side % 2 == 0:
            raise InputError(f"relative positions of {table.shape[0]} rows are of no square input")
        return (side + 1) // 2, False
    rows, prefix = state["pos_embed"].shape[1], class_token + registers
    found = [
        (grid, patches_only and prefix > 0)
        for patches, patches_only in ((rows - prefix, False), (rows, True))
        if (grid := math.isqrt(max(patches, 0))) and grid * grid == patches
    ]
    if stated is not None:
        found = [one for one in found if one[0] == stated]
    if not found:
        of = f", nor of a grid of {stated} x {stated}" if stated else ""
        raise InputError(
            f"{rows} positions with {prefix} prefix tokens are of no square input, the only ones "
            f"read{of}"
        )
    grid, patches_only = found[0]
    # One row less than a square is a grid too, one row longer and one column narrower.
    if patches_only and not registers and stated is None and not _lacks_class_row(state, grid):
        oblong = _most_square(rows - prefix)
        raise UnstatedError(
            f"{rows} positions fit {grid} x {grid} patches without one for [CLS], or patches of no "
            f"square such as {oblong} with one for [CLS], and no tensor tells which; state it: --arch "
            f"grid={grid}x{grid} (or timm's name of the model) where [CLS] has none; images that are "
            "not square are not read, so for those give a network on square images"
        )
    return grid, patches_only


def _lacks_class_row(state: dict[str, Tensor], grid: int) -> bool:
    """Guess, from published networks of such tensors, whether there is no position for [CLS].

    DeiT III's have layer scale and an even grid. Patches that are no square and stand beside a row for
    [CLS] fill an even grid only where both their sides are odd, as no usual input's are. FlexiViT's
    are known by their sizes.
    """
    if {"blocks.0.ls1.gamma", "blocks.0.gamma_1"} & state.keys():
        return grid % 2 == 0
    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    return (width, _depth(state), patch, grid) in _FLEXIVITS


def _most_square(patches: int) -> str:
    rows = next(side for side in range(math.isqrt(patches), 0, -1) if patches % side == 0)
    return f"{patches // rows} x {rows}"


def _ratio(hidden: int, width: int) -> float:
    """Return a ratio with which timm's `int(width * ratio)` is `hidden` again."""
    ratio = hidden / width
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


def _timm_arch(state: dict[str, Tensor], name: str) -> Arch:
    model = timm_vit(name, num_classes=0)
    positions = state.get("pos_embed")
    if positions is None:
        return arch_of(model, name)
    prefix = 0 if getattr(model, "no_embed_class", False) else model.num_prefix_tokens
    grid = math.isqrt(positions.shape[1] - prefix)
    patch = model.patch_embed.patch_size[0]
    if grid * grid != positions.shape[1] - prefix:
        raise InputError(f"{positions.shape[1]} positions do not fit {name} on square images")
    return arch_of(timm_vit(name, num_classes=0, img_size=grid * patch), name)


def arch_of(model: Vit, name: str) -> Arch:
    """Return the architecture of one of timm's models; by timm's name where sizes are not enough.

    Args:
        name: the model's name in timm; empty where it is not known.

    Raises:
        InputError: its input is not square.
    """
    block: Any = model.blocks[0]
    grid = model.patch_embed.grid_size
    patch = model.patch_embed.patch_size[0]
    if grid[0] != grid[1] or len(set(model.patch_embed.patch_size)) > 1:
        raise InputError(f"{name} is made for input that is not square")
    named = Arch(
        name=name.partition(".")[0],
        img_size=grid[0] * patch,
        patch_size=patch,
        width=model.embed_dim,
        depth=len(model.blocks),
        num_heads=block.attn.num_heads,
        class_token=model.cls_token is not None,
        num_registers=model.num_prefix_tokens - int(model.cls_token is not None),
        patch_positions_only=bool(getattr(model, "no_embed_class", False)),
        absolute_positions=model.pos_embed is not None,
        norm_eps=block.norm1.eps,
        timm_name=name.partition(".")[0],
    )
    state = model.state_dict()
    if "pos_embed" not in state and "blocks.0.attn.relative_position_bias_table" not in state:
        return named
    try:
        inferred = _from_shapes(
            state, named.norm_eps, StatedArch(grid=named.img_size // named.patch_size)
        )
    except (IndexError, KeyError, ValueError):
        return named
    plain = dataclasses.replace(
        inferred, name=named.name or inferred.name, num_heads=named.num_heads
    )
    pool: Pool = "token" if model.global_pool == "token" else "avg"
    return plain if fits(plain, model, num_classes=model.num_classes, pool=pool) else named

"""timm's names (VisionTransformer, Beit, Eva), with or without a head; asked where no other fits."""

import json
from typing import Any

import timm
import torch
from timm.models import VisionTransformer, eva, vision_transformer
from timm.models.beit import checkpoint_filter_fn as filter_beit
from torch import Tensor

from micl_bench.backbone import Arch, Vit, arch_names
from micl_bench.checkpoints import micl_bench
from micl_bench.checkpoints._account import account_filtered, drop, tensors_of
from micl_bench.checkpoints._convert import Converted
from micl_bench.checkpoints._infer import infer_arch, timm_vit
from micl_bench.errors import InputError

# Where timm's own `load_checkpoint` looks, in its order: averaged weights first.
_TABLES = {"state_dict_ema": "ema", "model_ema": "ema", "state_dict": "base", "model": "base"}
ABOUT = "micl_bench_about"
"""What `micl-bench convert` writes beside the tensors: the rest of our own layout, as JSON."""

_TELLTALE = {"patch_embed.proj.weight", "blocks.0.norm1.weight", "blocks.0.mlp.fc1.weight"}
_DROPPED = (
    drop(r"pre_logits\..+", "representation layer, which timm no longer has"),
    drop(r"(.+\.)?relative_position_index", "computed anew"),
    drop(r"rope\..+", "computed anew"),
)


def recognise(content: dict[str, Any]) -> bool:
    """Whether the file holds these names, bare or under `model`, `state_dict` or their averages."""
    return any(set(tensors_of(content, key)) >= _TELLTALE for key in ("", *_TABLES))


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Infer the sizes from the shapes; heads are width / 64 unless `arch` tells.

    An `arch` with timm's tag (`vit_base_patch16_224.augreg_in21k`) brings its pixels' mean and std.

    Raises:
        InputError: shapes that are no square ViT's; no such branch.
    """
    if ABOUT in content:
        return _from_about(content, arch=arch, branch=branch)
    key, name = _table(content, branch)
    found = tensors_of(content, key)
    sizes = infer_arch(found, arch=arch or _named_in(content))
    state, fates = account_filtered(
        content,
        _filtered(found, sizes),
        _DROPPED,
        layout="timm",
        key=key,
        beside=dict.fromkeys(_TABLES, "another network of the file"),
    )
    head = state.get("head.weight")
    return Converted(
        arch=sizes,
        state=state,
        method="",
        pool="avg" if "fc_norm.weight" in state or not sizes.class_token else "token",
        num_classes=0 if head is None else head.shape[0],
        fates=fates,
        branch=name if key in _TABLES and "ema" in _tables_of(content).values() else "",
        **_pixels(arch),
    )


def _from_about(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    try:
        about = json.loads(content[ABOUT])
        rest = {name: about[name] for name in about if name != "model"}
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the checkpoint's description is damaged: {error}") from error
    key = _table(content, None)[0]
    return micl_bench.convert({**rest, "model": tensors_of(content, key)}, arch=arch, branch=branch)


def _named_in(content: dict[str, Any]) -> str | None:
    """The model that timm's training script writes beside the weights, where it is a ViT."""
    name = content.get("arch")
    try:
        timm_vit(str(name))
    except InputError:
        return None
    return str(name)


def _tables_of(content: dict[str, Any]) -> dict[str, str]:
    return {
        key: name for key, name in _TABLES.items() if set(tensors_of(content, key)) >= _TELLTALE
    }


def _table(content: dict[str, Any], branch: str | None) -> tuple[str, str]:
    tables = _tables_of(content) or {"": "base"}
    for key, name in tables.items():
        if branch in (None, name):
            return key, name
    raise InputError(
        f"the file has no branch {branch!r}; it has {', '.join(sorted(set(tables.values())))}"
    )


def _filtered(tensors: dict[str, Tensor], arch: Arch) -> dict[str, Tensor]:
    """As timm's own filter has it: old names renamed, what it computes anew left out."""
    model = _empty(arch)
    if isinstance(model, VisionTransformer):
        filtered: dict[str, Tensor] = vision_transformer.checkpoint_filter_fn(
            tensors, model, adapt_layer_scale=True
        )
    elif isinstance(model, eva.Eva):
        filtered = eva.checkpoint_filter_fn(tensors, model)
    else:
        filtered = filter_beit(tensors, model)
    return filtered


def _empty(arch: Arch) -> Vit:

    with torch.device("meta"):
        return arch.build_any()


def _pixels(arch: str | None) -> dict[str, Any]:
    if arch is None or arch in arch_names() or "." not in arch:
        return {}
    config = timm.models.get_pretrained_cfg(arch)
    if config is None:
        raise InputError(f"timm knows no weights {arch!r}; give the architecture without the tag")
    return {"mean": tuple(config.mean), "std": tuple(config.std)}

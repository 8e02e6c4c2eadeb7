"""Our own layout: weights beside architecture, method and provenance."""

import json
from typing import Any, get_args

from torch import Tensor

from micl_bench.backbone import Arch, timm_vit
from micl_bench.checkpoints._converted import Converted, Guess, PositionRule
from micl_bench.checkpoints._rules import account, keep, refuse_branch
from micl_bench.checkpoints._timm_names import num_classes_of
from micl_bench.records.result import Stage
from micl_bench.records.schema import built
from micl_bench.runtime.errors import InputError

ABOUT = "micl_bench_about"
"""What `micl-bench convert` writes into files of other layouts: the rest of this one, as JSON."""

_RULES = (keep(r".+"),)
_SIZES = ("img_size", "patch_size", "width", "depth", "num_heads", "num_registers")
_SWITCHES = (
    "class_token",
    "layer_scale",
    "qkv_bias",
    "patch_positions_only",
    "absolute_positions",
)
_LARGEST = 1 << 20
_LONGEST_LINE = 200
_MOST_STAGES = 16


def recognise(content: dict[str, Any]) -> bool:
    """Whether a file's content is of this layout."""
    return "micl_bench" in content


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Nothing to rename; `arch` may only repeat what the file says.

    Raises:
        InputError: another version, or a field is missing or wrong.
    """
    if content.get("micl_bench") != 1:
        raise InputError(f"checkpoint version {content.get('micl_bench')!r}; this version reads 1")
    refuse_branch(branch)
    state, fates = account(content, _RULES, key="model", layout="micl_bench")
    try:
        own = _arch(content["arch"])
        converted = Converted(
            arch=own,
            state=state,
            method=str(content["method"]),
            pool="avg" if content["pool"] == "avg" else "token",
            num_classes=int(content["num_classes"]),
            classes=tuple(map(str, content["provenance"].get("classes", ()))),
            maker=_line(content["provenance"].get("classifier", "")),
            origin=_origin(content["provenance"].get("origin", [])),
            fates=fates,
            # Of the start, which later stages keep; what was pre-trained here is MiCL's, whose code
            # resamples as MAE's does.
            positions=PositionRule(**content.get("positions", {"antialias": False})),
            mean=tuple(content.get("mean", Converted.mean)),
            std=tuple(content.get("std", Converted.std)),
            guesses=_guesses(content.get("guesses", [])),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"the checkpoint's description is damaged: {error}") from error
    if converted.num_classes != num_classes_of(state):
        raise InputError(
            f"the checkpoint's description is damaged: num_classes {converted.num_classes}, but a "
            f"head of {num_classes_of(state)} classes"
        )
    if own.timm_name:
        # A file's own words go no further than to names that timm itself has.
        timm_vit(own.timm_name)
    if arch not in (None, own.name):
        raise InputError(f"the checkpoint is a {own.name}, not a {arch}; leave arch out")
    return converted


def from_about(
    about: Any, tensors: dict[str, Tensor], *, arch: str | None, branch: str | None
) -> Converted:
    """`convert` for what `ABOUT` stands for in a file of another layout.

    Args:
        tensors: under timm's names.

    Raises:
        InputError: as `convert`, or it is no JSON.
    """
    try:
        told = json.loads(about)
        rest = {name: told[name] for name in told if name != "model"}
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the checkpoint's description is damaged: {error}") from error
    return convert({**rest, "model": tensors}, arch=arch, branch=branch)


def _guesses(names: Any) -> tuple[Guess, ...]:
    """Raises ValueError for what could not have been assumed."""
    known = get_args(Guess)
    if not isinstance(names, list) or any(name not in known for name in names):
        raise ValueError("guesses that are not known")
    return tuple(guess for guess in known if guess in names)


def _line(words: Any) -> str:
    """Raises ValueError for what tables could not print."""
    if not isinstance(words, str) or not words.isprintable() or len(words) > _LONGEST_LINE:
        raise ValueError(f"{str(words)[:50]!r} is not one short line")
    return words


def _origin(stages: Any) -> tuple[Stage, ...]:
    """Raises TypeError or ValueError for what records could not hold."""
    if not isinstance(stages, list) or len(stages) > _MOST_STAGES:
        raise ValueError(f"origin is not a list of at most {_MOST_STAGES} stages")
    if len(json.dumps(stages)) > _LARGEST:
        raise ValueError(f"origin is longer than {_LARGEST:,} characters")
    # Files of earlier versions know no statements.
    known = [{"stated": False, **stage} for stage in stages]
    found = tuple(built(Stage, stage, place="origin") for stage in known)
    for stage in found:
        for words in (stage.task, stage.method, stage.data):
            _line(words)
    return found


def _arch(fields: dict[str, Any]) -> Arch:
    """Every field of the type, and within the range, that a model can be built of.

    Raises:
        TypeError, ValueError: one is not.
    """
    for name, value in fields.items():
        if name in _SIZES and not (type(value) is int and 0 <= value <= _LARGEST):
            raise ValueError(f"{name} {value!r}")
        if name in _SWITCHES and type(value) is not bool:
            raise ValueError(f"{name} {value!r}")
    if not fields["patch_size"]:
        raise ValueError("patch_size 0")
    arch = Arch(**fields)
    if not (0 < arch.mlp_ratio < _LARGEST and 0 <= arch.norm_eps < 1):
        raise ValueError(f"mlp_ratio {arch.mlp_ratio!r}, norm_eps {arch.norm_eps!r}")
    if arch.relative_positions not in ("", "block", "shared"):
        raise ValueError(f"relative_positions {arch.relative_positions!r}")
    return arch

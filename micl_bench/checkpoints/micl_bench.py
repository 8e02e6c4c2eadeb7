"""Our own layout: weights beside architecture, method and provenance."""

import dataclasses
from typing import Any, TypeVar, get_args

from torch import Tensor

from micl_bench.backbone import Arch, PositionRule, timm_vit
from micl_bench.checkpoints._converted import Converted, Guess
from micl_bench.checkpoints._metadata import declared_part
from micl_bench.checkpoints._network import Network, chosen, num_classes_of
from micl_bench.checkpoints._rules import account, keep
from micl_bench.records.weights import Stage
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import canonical_json
from micl_bench.runtime.validate import Line, built, parsed
from micl_bench.runtime.values import shown

ABOUT = "micl_bench_about"
"""`micl-bench convert` writes the description of this layout, as JSON, under this key into others."""

_RULES = (keep(r".+"),)
_MOST_STAGES, _LONGEST_ORIGIN = 16, 1 << 20

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _About:
    """All of a file but its version and its weights."""

    arch: Arch
    method: Line
    pool: str
    num_classes: int
    provenance: dict[str, Any]
    # Those of the start, which later stages keep; by default MiCL's, whose code resamples as MAE's does.
    positions: PositionRule = PositionRule(antialias=False)
    mean: tuple[float, float, float] = Converted.mean
    std: tuple[float, float, float] = Converted.std
    guesses: tuple[Guess, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Provenance:
    """The part of a file's provenance that is read."""

    classes: tuple[str, ...] = ()
    classifier: Line = ""
    origin: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        if len(self.origin) > _MOST_STAGES:
            raise InputError(f"origin has more than {_MOST_STAGES} stages")
        if sum(len(canonical_json(stage.settings)) for stage in self.origin) > _LONGEST_ORIGIN:
            raise InputError(f"origin is longer than {_LONGEST_ORIGIN:,} characters")


def recognise(content: dict[str, Any]) -> bool:
    """Return whether a file's content is of this layout."""
    return "micl_bench" in content


def convert(content: dict[str, Any], *, arch: str | None, branch: str | None) -> Converted:
    """Convert a file of our own; `arch` may only repeat the file's words.

    Raises:
        InputError: the version is another, or a field is missing or wrong.
    """
    version = content.get("micl_bench")
    if type(version) is not int or version != 1:
        raise InputError(f"checkpoint version {shown(version)}; this version reads 1")
    chosen([Network()], branch)
    state, fates = account(content, _RULES, key="model", layout="micl_bench")
    about = _built(_About, content)
    provenance = _built(_Provenance, about.provenance, "$.provenance")
    try:
        converted = Converted(
            arch=about.arch,
            state=state,
            method=about.method,
            pool="avg" if about.pool == "avg" else "token",
            num_classes=about.num_classes,
            classes=provenance.classes,
            maker=provenance.classifier,
            origin=provenance.origin,
            fates=fates,
            positions=about.positions,
            mean=about.mean,
            std=about.std,
            guesses=tuple(guess for guess in get_args(Guess) if guess in about.guesses),
        )
    except InputError as error:
        raise _damaged(error) from error
    if converted.num_classes != num_classes_of(state):
        raise _damaged(
            f"num_classes {converted.num_classes}, but a head of {num_classes_of(state)} classes"
        )
    if about.arch.timm_name:
        # A file's own words go no further than to names that timm itself has.
        timm_vit(about.arch.timm_name)
    if arch not in (None, about.arch.name):
        raise InputError(f"the checkpoint is a {about.arch.name}, not a {arch}; leave arch out")
    return converted


def from_about(
    about: Any, tensors: dict[str, Tensor], *, arch: str | None, branch: str | None
) -> Converted:
    """Convert a file of another layout that has our description under `ABOUT`.

    Args:
        about: the description, as JSON.
        tensors: the file's tensors, under timm's names.

    Raises:
        InputError: as `convert`, or the description is no JSON.
    """
    try:
        described = built(dict[str, Any], parsed(about))
    except InputError as error:
        raise _damaged(error) from error
    return convert({**described, "model": tensors}, arch=arch, branch=branch)


def _built(kind: type[T], content: dict[str, Any], place: str = "$") -> T:
    """Make a dataclass of those fields of a file's description that it declares."""
    try:
        return declared_part(kind, content, place)
    except InputError as error:
        raise _damaged(error) from error


def _damaged(what: object) -> InputError:
    return InputError(f"the checkpoint's description is damaged: {what}")

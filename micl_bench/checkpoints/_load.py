"""From a source (a file, `timm:NAME`, `random:ARCH`) to a model whose every parameter is filled."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import VisionTransformer
from torch import Tensor

from micl_bench import plugins
from micl_bench.backbone import Arch, Pool, init_mae_, named_arch, resample_positions
from micl_bench.checkpoints._convert import Converted
from micl_bench.checkpoints._safe import read_safely
from micl_bench.data.pixels import normalise
from micl_bench.errors import InputError
from micl_bench.files import digest_file
from micl_bench.record import CheckpointInfo, visible_path

# Not part of the backbone: a classifier's head and its own norm.
_HEAD_PREFIXES = ("head.", "fc_norm.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Weights + architecture + provenance."""

    info: CheckpointInfo
    content: Converted

    @property
    def arch(self) -> Arch:
        """Sizes of the backbone as stored."""
        return self.content.arch

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the head's outputs; empty where the file does not tell."""
        return self.content.classes

    def normalise(self, images_NCHW: Tensor) -> Tensor:
        """Pixels in 0 to 255 to what this network was trained on."""
        return normalise(images_NCHW, mean=self.content.mean, std=self.content.std)

    def described_at(self, img_size: int) -> CheckpointInfo:
        """What records say of it at an input size: where positions came from, what pixels it got."""
        mean, std = (
            " ".join(f"{value:g}" for value in values)
            for values in (self.content.mean, self.content.std)
        )
        stored, wanted = (size // self.arch.patch_size for size in (self.arch.img_size, img_size))
        resampled = f"{stored} x {stored} to {wanted} x {wanted}, {self.content.positions}"
        return dataclasses.replace(
            self.info,
            positions="" if stored == wanted else resampled,
            normalisation=f"mean {mean}, std {std}",
        )

    @property
    def method(self) -> str:
        """What made the weights, as tables print it."""
        return self.content.method

    def backbone(self, *, img_size: int | None = None, drop_path: float = 0.0) -> VisionTransformer:
        """The ViT without a head, in eval mode, positions resampled to `img_size`."""
        arch, state = self._resized(img_size)
        kept = _without_head(state)
        return _fill(arch.build(drop_path=drop_path), kept, self.info.source)

    def classifier(self, *, num_classes: int | None = None) -> VisionTransformer:
        """The ViT with its stored head, in eval mode.

        Raises:
            InputError: there is no head, or it has another number of classes.
        """
        stored = self.content.num_classes
        if stored == 0:
            raise InputError(f"{self.info.source} has no classifier head; fine-tune it first")
        if num_classes not in (None, stored):
            raise InputError(f"{self.info.source} knows {stored} classes, not {num_classes}")
        model = self.arch.build(num_classes=stored, pool=self.content.pool)
        return _fill(model, self.content.state, self.info.source)

    def with_new_head(
        self, *, num_classes: int, img_size: int, drop_path: float, pool: Pool, seed: int
    ) -> VisionTransformer:
        """The backbone under a fresh head, for fine-tuning.

        The head starts almost at zero (std 2e-5, MAE's choice), so that the first steps do not
        shake what was pre-trained. With `pool="avg"` the norm moves behind the pooling.
        """
        arch, state = self._resized(img_size)
        kept = _without_head(state)
        model = arch.build(num_classes=num_classes, drop_path=drop_path, pool=pool)
        generator = torch.Generator().manual_seed(seed)
        kept["head.weight"] = torch.randn(num_classes, arch.width, generator=generator) * 2e-5
        kept["head.bias"] = torch.zeros(num_classes)
        if pool == "avg":
            for part in ("weight", "bias"):
                kept[f"fc_norm.{part}"] = kept.pop(f"norm.{part}")
        return _fill(model, kept, self.info.source)

    def _resized(self, img_size: int | None) -> tuple[Arch, dict[str, Tensor]]:
        state = dict(self.content.state)
        if img_size in (None, self.arch.img_size):
            return self.arch, state
        arch = dataclasses.replace(self.arch, img_size=img_size)
        grid = arch.img_size // arch.patch_size
        state["pos_embed"] = resample_positions(state["pos_embed"], grid=grid)
        return arch, state


def load_checkpoint(
    source: str | Path,
    *,
    arch: str | None = None,
    layout: str | None = None,
    branch: str | None = None,
    seed: int = 0,
) -> Checkpoint:
    """Read a checkpoint.

    Args:
        source: a file, `timm:NAME` (downloaded by timm) or `random:ARCH` (MAE initialisation).
        arch: name of the architecture where the file's shapes do not tell it.
        layout: name of the format where the keys fit several.
        branch: which of several networks in the file.
        seed: of `random:ARCH`.

    Raises:
        InputError: unknown source, format or architecture; unsafe or damaged file.
    """
    kind, _, name = str(source).partition(":")
    if kind == "random" and name:
        return _random(name, seed)
    if kind == "timm" and name:
        return _from_timm(name)
    path = Path(source)
    content = read_safely(path)
    if {"optimizer", "step"} <= content.keys():
        raise InputError(f"{path} is the state of an unfinished run; use the backbone it ends with")
    for name in [layout] if layout else plugins.names("checkpoints"):
        module = plugins.find("checkpoints", name)
        if layout or module.recognise(content):
            info = CheckpointInfo(source=visible_path(path), format=name, digest=digest_file(path))
            converted = module.convert(content, arch=arch, branch=branch)
            # Files that do not say what made them go by their own name.
            named = dataclasses.replace(converted, method=converted.method or path.stem)
            return Checkpoint(info=info, content=named)
    known = ", ".join(plugins.names("checkpoints"))
    raise InputError(f"{path} is of no known checkpoint layout; known: {known}")


def load_backbone(
    source: str | Path, *, arch: str | None = None, img_size: int | None = None
) -> VisionTransformer:
    """A timm ViT in eval mode; `forward_features(images_NCHW)` gives tokens after the final norm.

    Raises:
        InputError: as `load_checkpoint`, or a parameter would stay unfilled.
    """
    return load_checkpoint(source, arch=arch).backbone(img_size=img_size)


def load_classifier(
    source: str | Path, *, arch: str | None = None, num_classes: int | None = None
) -> VisionTransformer:
    """The same with its head: `model(images_NCHW)` gives logits.

    Raises:
        InputError: as `load_checkpoint`, no head, or another number of classes.
    """
    return load_checkpoint(source, arch=arch).classifier(num_classes=num_classes)


def _without_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's tensors; a norm that moved behind the pooling moves back."""
    kept = {name: value for name, value in state.items() if not name.startswith(_HEAD_PREFIXES)}
    for part in ("weight", "bias"):
        if f"norm.{part}" not in kept and f"fc_norm.{part}" in state:
            kept[f"norm.{part}"] = state[f"fc_norm.{part}"]
    return kept


def _fill(model: VisionTransformer, state: dict[str, Tensor], source: str) -> VisionTransformer:
    expected = model.state_dict()
    missing = sorted(expected.keys() - state.keys())
    surplus = sorted(state.keys() - expected.keys())
    shapes = [
        f"{name} is {tuple(state[name].shape)}, needed {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    problems = [f"missing {name}" for name in missing]
    problems += [f"unexpected {name}" for name in surplus] + shapes
    if problems:
        shown = "; ".join(problems[:5]) + (
            f"; and {len(problems) - 5} more" if problems[5:] else ""
        )
        raise InputError(f"{source} does not fit the architecture: {shown}")
    model.load_state_dict(state)
    return model.eval()


def _random(name: str, seed: int) -> Checkpoint:
    arch = named_arch(name)
    model = arch.build()
    init_mae_(model, generator=torch.Generator().manual_seed(seed))
    return _from_model(
        model, arch, source=f"random:{name}", layout="random", method="random weights"
    )


def _from_timm(name: str) -> Checkpoint:
    if name.partition(".")[0] not in timm.list_models(module="vision_transformer"):
        raise InputError(f"timm has no plain ViT called {name!r}; see timm.list_models('vit_*')")
    try:
        model = timm.create_model(name, pretrained=True, num_classes=0)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"timm could not give the weights of {name}: {reason}") from error
    assert isinstance(model, VisionTransformer)
    config: Any = model.pretrained_cfg or {}
    pixels = (tuple(config.get("mean", ())), tuple(config.get("std", ())))
    if pixels != (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD):
        raise InputError(
            f"{name} was trained with mean and std {pixels}; only ImageNet's are supported yet"
        )
    state = model.state_dict()
    layout = plugins.find("checkpoints", "timm")
    first_block: Any = next(iter(model.blocks))
    num_heads = first_block.attn.num_heads
    arch = dataclasses.replace(
        layout.convert(state, arch=None, branch=None).arch,
        name=name.partition(".")[0],
        num_heads=num_heads,
    )
    return _from_model(model, arch, source=f"timm:{name}", layout="timm", method=name)


def _from_model(
    model: VisionTransformer, arch: Arch, *, source: str, layout: str, method: str
) -> Checkpoint:
    state = model.state_dict()
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode() + state[key].contiguous().numpy().tobytes())
    info = CheckpointInfo(source=source, format=layout, digest=digest.hexdigest())
    content = Converted(arch=arch, state=state, method=method, pool="token", num_classes=0)
    return Checkpoint(info=info, content=content)

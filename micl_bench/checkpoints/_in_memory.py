"""Modules in memory as checkpoints: timm's ViTs as from a file, others by their outputs.

Shapes: N images, D width, T tokens, R readouts.
"""

import copy
import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from micl_bench.backbone import Arch, Pool, Vit, fits
from micl_bench.checkpoints._checkpoint import Checkpoint
from micl_bench.checkpoints._converted import Converted, Guess
from micl_bench.checkpoints._infer import arch_of
from micl_bench.checkpoints._options import IMAGENET
from micl_bench.checkpoints._rules import keep_all
from micl_bench.records.weights import CheckpointInfo
from micl_bench.runtime.errors import InputError

_READOUTS = ("cls_1", "avg_1")


class ModuleEncoder(nn.Module):
    """A module whose features have the names of a ViT's readouts.

    Features (N, D) go by both names. Of tokens (N, T, D), `cls_1` is the first where the module says
    that it has tokens before the patches (`num_prefix_tokens`, as timm's), `avg_1` is the mean of the
    others; where it does not say so, both are the mean of all.
    """

    readouts = _READOUTS

    def __init__(self, module: nn.Module, embed_dim: int = 0) -> None:
        super().__init__()
        self.module, self.embed_dim = module, embed_dim

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return features_NRD, fp32."""
        found = _answer(self.module, images_NCHW).float()
        if found.ndim == 2:
            return torch.stack([found, found], dim=1)
        prefix = int(getattr(self.module, "num_prefix_tokens", 0))
        mean_ND = found[:, prefix:].mean(dim=1)
        return torch.stack([found[:, 0] if prefix else mean_ND, mean_ND], dim=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModuleCheckpoint(Checkpoint):
    """A module that is no ViT of timm's: features, and the logits of its own classifier."""

    module: nn.Module

    @property
    def features(self) -> str:
        """The readouts, in words."""
        return self.content.branch

    def require_vit(self, task: str) -> None:
        """Raise an InputError, as the module gives features alone."""
        raise InputError(
            f"{task} needs a ViT of timm's; {self.info.source} gives features alone (knn, linear, "
            "logistic and robustness take it)"
        )

    def input_size(self, asked: int = 0) -> int:
        """Return the side asked for, or the module's own for 0; the module refuses others itself."""
        return asked or self.arch.img_size

    def described_at(self, img_size: int | None) -> CheckpointInfo:
        """Return the description of a ViT, without the parts that only ViTs have."""
        described = super().described_at(None)
        network = f"{self.arch.name}, {self.features}, width {self.arch.width}"
        return dataclasses.replace(described, branch="", network=network, positions="")

    def backbone(self, *, img_size: int | None = None, drop_path: float = 0.0) -> Any:
        """Return a copy that gives readouts, in eval mode."""
        return ModuleEncoder(copy.deepcopy(self.module), self.arch.width).eval()

    def classifier(self, *, num_classes: int | None = None) -> Any:
        """Return a copy that gives logits, in eval mode."""
        stored = self.content.num_classes
        if stored == 0 or num_classes not in (None, stored):
            raise InputError(f"{self.info.source} gives {stored or 'no'} logits of classes")
        return copy.deepcopy(self.module).eval()

    def with_new_head(self, **options: Any) -> Any:
        """Raise an InputError, as only a ViT takes a new head."""
        self.require_vit("a new head")


def in_memory(
    module: nn.Module,
    *,
    img_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Checkpoint:
    """Return a module in memory as a checkpoint; the module itself stays as it is.

    Args:
        module: a ViT of timm's, or any module that maps images (N, 3, H, W) to features (N, D) or
            tokens (N, T, D).
        img_size: side of its input in pixels; None for the one in its timm config.
        mean, std: of the pixels (0 to 1) that it was trained on; None for those in its timm config, or
            ImageNet's, which count as assumed.

    Raises:
        InputError: no size is known, or the module gives neither features nor tokens for two images.
    """
    config: Any = getattr(module, "pretrained_cfg", None) or {}
    if (mean is None) != (std is None):
        raise InputError("mean and std of the pixels belong together: give both, or none")
    known: Any = (mean, std) if mean is not None else (config.get("mean"), config.get("std"))
    guesses: tuple[Guess, ...] = () if all(known) else ("pixels",)
    pixels = [tuple(map(float, one)) for one in (IMAGENET if guesses else known)]
    stated: dict[str, Any] = {"mean": pixels[0], "std": pixels[1], "guesses": guesses}
    if isinstance(module, Vit) and (found := _as_vit(module, config, stated)):
        if img_size not in (None, found.arch.img_size):
            raise InputError(
                f"the module takes {found.arch.img_size} px; leave img_size out, or change the "
                "recipe's pixels.img_size"
            )
        return found
    side = img_size or (config.get("input_size") or (0,))[-1]
    if not side:
        raise InputError(
            "the module does not say the size of its input (no timm config); give img_size"
        )
    return _as_module(module, side, stated)


def vit_content(module: Any, arch: Arch, method: str, **fields: Any) -> Converted:
    """Convert a ViT of timm's, with its head where `arch` has one of that kind."""
    read = _with_known_head(module, arch)
    state = {key: value.detach().cpu().clone() for key, value in read.state_dict().items()}
    return Converted(
        arch=arch,
        state=state,
        method=method,
        pool=_pool(read),
        num_classes=read.num_classes,
        fates=keep_all(state),
        **fields,
    )


def _with_known_head(module: Any, arch: Arch) -> Any:
    if fits(arch, module, num_classes=module.num_classes, pool=_pool(module)):
        return module
    headless = copy.deepcopy(module)
    headless.reset_classifier(0)
    return headless


def _pool(module: Any) -> Pool:
    return "token" if module.global_pool == "token" else "avg"


def _as_vit(module: Any, config: Any, stated: dict[str, Any]) -> Checkpoint | None:
    """Return a ViT as from a file of its weights; None where `Arch` builds another computation."""
    own = type(module).__name__
    try:
        name = str(config.get("architecture") or "")
        arch = arch_of(module, name)
    except (InputError, AttributeError, TypeError):
        return None
    read = _with_known_head(module, arch)
    if not fits(arch, read, num_classes=read.num_classes, pool=_pool(read)):
        return None
    named = dataclasses.replace(arch, name=arch.name or own)
    content = vit_content(module, named, name or own, **stated)
    return Checkpoint.verified(_info(module, digest_state(content.state)), content)


def _as_module(module: nn.Module, side: int, stated: dict[str, Any]) -> ModuleCheckpoint:
    name = type(module).__name__
    probe = copy.deepcopy(module).cpu().eval()
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found, logits = _answer(probe, images), probe(images)
    words = {2: "the module's features", 3: "the mean of the module's tokens"}[found.ndim]
    if found.ndim == 3 and int(getattr(module, "num_prefix_tokens", 0)):
        words = "the module's tokens"
    # Its code may change where neither weights nor structure do.
    state = {
        **probe.state_dict(),
        " answer": found,
        " structure": torch.tensor(list(str(probe).encode())),
    }
    arch = Arch(
        name=name,
        img_size=side,
        patch_size=1,
        width=found.shape[-1],
        depth=1,
        num_heads=1,
        absolute_positions=False,
    )
    content = Converted(
        arch=arch,
        state={},
        method=name,
        pool="token",
        num_classes=logits.shape[1] if logits.ndim == 2 else 0,
        branch=words,
        **stated,
    )
    return ModuleCheckpoint(info=_info(module, digest_state(state)), content=content, module=module)


def _answer(module: Any, images_NCHW: Tensor) -> Tensor:
    """Return features (N, D) or tokens (N, T, D); of timm's models those before the classifier.

    Raises:
        InputError: the module gives something else.
    """
    try:
        if hasattr(module, "forward_features") and hasattr(module, "forward_head"):
            found = module.forward_head(module.forward_features(images_NCHW), pre_logits=True)
        else:
            found = module(images_NCHW)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{type(module).__name__} takes no images of {tuple(images_NCHW.shape[1:])}: {reason}"
        ) from error
    shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    if isinstance(shape, str) or len(shape) not in (2, 3) or shape[0] != len(images_NCHW):
        raise InputError(
            f"{type(module).__name__} gives {shape} for {len(images_NCHW)} images; needed are features "
            "(N, D) or tokens (N, T, D): wrap it in a module that gives them"
        )
    return found


def _info(module: nn.Module, digest: str) -> CheckpointInfo:
    return CheckpointInfo(
        source=f"in memory: {type(module).__name__}", format="module", digest=digest
    )


def digest_state(state: dict[str, Tensor]) -> str:
    """Return the SHA-256 of tensors with their names."""
    digest = hashlib.sha256()
    for key in sorted(state):
        content = state[key].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(key.encode() + content.numpy().tobytes())
    return digest.hexdigest()

"""Checkpoints that were read: their models at any input size, every parameter filled or refused."""

import dataclasses
import functools

import torch
from torch import Tensor

from micl_bench.backbone import Arch, Pool, Vit
from micl_bench.backbone.positions import resample_relative
from micl_bench.checkpoints._converted import Converted, Guess
from micl_bench.checkpoints._filling import (
    classifier_of,
    filled,
    require_whole,
    without_head,
    without_unread_head,
)
from micl_bench.checkpoints._options import pixels_in_words
from micl_bench.data.pixels import normalise
from micl_bench.records.weights import CheckpointInfo
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import printable, say
from micl_bench.runtime.wording import counted

_RELATIVE = "relative_position_bias_table"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Weights, their architecture, and their provenance."""

    info: CheckpointInfo
    content: Converted

    @classmethod
    def verified(cls, info: CheckpointInfo, content: Converted) -> "Checkpoint":
        """Return the checkpoint without a head that timm's ViT lacks, once `require_whole` takes it."""
        content = without_unread_head(content)
        require_whole(content, info.source)
        return cls(info=info, content=content)

    @property
    def arch(self) -> Arch:
        """Sizes of the backbone as stored."""
        return self.content.arch

    @property
    def method(self) -> str:
        """The method that made the weights, as tables print it."""
        return self.content.method

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the head's outputs; empty where the file does not state them."""
        return self.content.classes

    @property
    def features(self) -> str:
        """The features of a module that is no ViT, in words; empty for a ViT."""
        return ""

    def require_vit(self, task: str) -> None:
        """Raise an InputError, which names the task, unless this is a ViT."""

    @property
    def maker(self) -> str:
        """The making of the head, in words; empty where the file does not state it."""
        return self.content.maker

    def guesses_at(self, img_size: int | None) -> dict[str, str]:
        """Return each assumption, in words, with the option that states it instead.

        Resampling of positions counts only where it takes place.

        Args:
            img_size: side of the input in pixels; None for inputs of any size.
        """
        arch = self.arch
        why = "width / 64" if arch.num_heads * 64 == arch.width else f"usual at width {arch.width}"
        mean_std = pixels_in_words((self.content.mean, self.content.std))
        side = arch.img_size // arch.patch_size
        words: dict[Guess, tuple[str, str]] = {
            "heads": (f"{arch.num_heads} heads ({why})", "--arch heads=N"),
            "pixels": (f"{mean_std} of the pixels", "--pixels"),
            "norm_eps": (f"norms' epsilon {arch.norm_eps:g}", "--arch norm_eps=E"),
            "grid": (
                f"{side} x {side} patches without positions for tokens before them",
                f"--arch grid={side}x{side}",
            ),
            "positions": (f"positions resampled {self.position_rule}", "--format"),
        }
        is_resampled = img_size != arch.img_size
        kept = (one for one in self.content.guesses if one != "positions" or is_resampled)
        return dict(words[guess] for guess in kept)

    def say_guesses(self) -> None:
        """Print one line, once, on the assumptions that hold for any size of the input."""
        if found := self.guesses_at(self.arch.img_size):
            options = ", ".join(dict.fromkeys(found.values()))
            _say_once(
                f"{self.info.source}: assumed, as the file does not state it: {', '.join(found)}; "
                f"{options} would"
            )

    def refuse_guesses(self, img_size: int | None) -> None:
        """Raise an InputError that lists assumptions and the options that state them (`--strict`)."""
        if found := self.guesses_at(img_size):
            listed = ", ".join(f"{words} ({option} states it)" for words, option in found.items())
            made = "; it was so when the file was made" if self.info.format == "micl_bench" else ""
            raise InputError(
                f"--strict: {self.info.source} does not state everything; assumed would be: "
                f"{listed}{made}"
            )

    def normalise(self, images_NCHW: Tensor) -> Tensor:
        """Return fp32 images with this network's mean and std, of pixels from 0 to 255."""
        return normalise(images_NCHW, mean=self.content.mean, std=self.content.std)

    def input_size(self, asked: int = 0) -> int:
        """Return the side of the input in pixels: the one asked for, or the checkpoint's own for 0.

        Another one than its own is printed at once, as the recipe may be for other networks.

        Raises:
            InputError: the side is no whole number of patches.
        """
        own = self.arch.img_size
        if asked in (0, own):
            return own
        grid = dataclasses.replace(self.arch, img_size=asked).img_size // self.arch.patch_size
        _say_once(
            f"images are read at {asked} px, {self.info.source} was trained at {own} px: its positions "
            f"are brought to {grid} x {grid} patches (pixels of its own: img_size {own})"
        )
        return asked

    def described_at(self, img_size: int | None) -> CheckpointInfo:
        """Return the description for records at an input size, with positions and pixels.

        Args:
            img_size: side of the input in pixels; None where every image keeps its own size.
        """
        arch, pixels = self.arch, (self.content.mean, self.content.std)
        mean, std = (" ".join(f"{value:g}" for value in values) for values in pixels)
        stored = arch.img_size // arch.patch_size
        side = None if img_size is None else img_size // arch.patch_size
        wanted = f"{side} x {side}" if side is not None else "each image's grid"
        resampled = f"{stored} x {stored} to {wanted}, {self.position_rule}"
        return dataclasses.replace(
            self.info,
            branch=self.content.branch,
            origin=self.content.origin,
            network=f"width {arch.width}, depth {arch.depth}, {arch.num_heads} heads, patch "
            f"{arch.patch_size}, norm eps {arch.norm_eps:g}",
            positions="" if img_size == arch.img_size else resampled,
            normalisation=f"mean {mean}, std {std}",
            guesses=tuple(self.guesses_at(img_size)),
        )

    @property
    def position_rule(self) -> str:
        """The resampling of positions to another grid, in words."""
        rules = [str(self.content.positions)] if self.arch.absolute_positions else []
        rules += ["relative as BEiT's code"] if self.arch.relative_positions else []
        return "; ".join(rules) or "rotary, nothing to resample"

    def backbone(self, *, img_size: int | None = None, drop_path: float = 0.0) -> Vit:
        """Return the ViT without a head, in eval mode, its positions resampled to `img_size`."""
        arch, state = self._resized(img_size)
        return filled(
            lambda: arch.build_any(drop_path=drop_path), without_head(state), self.info.source
        )

    def classifier(self, *, num_classes: int | None = None) -> Vit:
        """Return the ViT with its stored head, in eval mode.

        Raises:
            InputError: there is no head, or it has another number of classes.
        """
        stored = self.content.num_classes
        if stored == 0:
            raise InputError(f"{self.info.source} has no classifier head; fine-tune it first")
        if num_classes not in (None, stored):
            raise InputError(
                f"{self.info.source} knows {counted(stored, 'class', 'classes')}, not {num_classes}"
            )
        return filled(lambda: classifier_of(self.content), self.content.state, self.info.source)

    def with_new_head(
        self,
        *,
        num_classes: int,
        img_size: int,
        drop_path: float,
        pool: Pool,
        seed: int,
        fresh_norm: bool = False,
    ) -> Vit:
        """Return the backbone under a fresh head, for fine-tuning.

        The head starts almost at zero (std 2e-5, MAE's choice), so that the first steps do not
        shake the pre-trained weights. With `pool="avg"`, and without [CLS], the norm moves behind the
        pooling; with `fresh_norm` it starts there at weight 1 and bias 0, as in MAE's code.
        """
        arch, state = self._resized(img_size)
        kept = without_head(state)
        generator = torch.Generator().manual_seed(seed)
        kept["head.weight"] = torch.randn(num_classes, arch.width, generator=generator) * 2e-5
        kept["head.bias"] = torch.zeros(num_classes)
        if pool == "avg" or not arch.class_token:
            for part in ("weight", "bias"):
                moved = kept.pop(f"norm.{part}")
                fresh = torch.full_like(moved, float(part == "weight"))
                kept[f"fc_norm.{part}"] = fresh if fresh_norm else moved
        return filled(
            lambda: arch.build_any(num_classes=num_classes, drop_path=drop_path, pool=pool),
            kept,
            self.info.source,
        )

    def _resized(self, img_size: int | None) -> tuple[Arch, dict[str, Tensor]]:
        state = dict(self.content.state)
        if img_size in (None, self.arch.img_size):
            return self.arch, state
        arch = dataclasses.replace(self.arch, img_size=img_size)
        if "positions" in self.content.guesses:
            _say_once(
                f"{self.info.source} does not state how its method brings positions to another size; "
                f"as timm: {self.content.positions} (--format mae, dino, ibot, ... for a method's own)"
            )
        grid = arch.img_size // arch.patch_size
        prefix = 0 if arch.patch_positions_only else arch.num_prefix_tokens
        for name, value in state.items():
            if name == "pos_embed":
                state[name] = self.content.positions.brought(value, grid, prefix)
            elif name.endswith(_RELATIVE):
                state[name] = resample_relative(value, grid=grid)
        return arch, state


@functools.cache
def _say_once(line: str) -> None:
    say(printable(line))

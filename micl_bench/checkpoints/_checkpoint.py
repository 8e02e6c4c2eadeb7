"""A checkpoint that was read: its models at any input size, every parameter filled or refused."""

import dataclasses
import functools
from collections.abc import Callable

import torch
from torch import Tensor

from micl_bench.backbone import Arch, Pool, Vit, resample_positions
from micl_bench.backbone.positions import recomputed_sincos, resample_relative
from micl_bench.checkpoints._converted import Converted, Guess
from micl_bench.checkpoints._told import pixels_in_words
from micl_bench.data.pixels import normalise
from micl_bench.records.result import CheckpointInfo
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import printable, say
from micl_bench.runtime.wording import counted

# Not part of the backbone: a classifier's head, its own norm and its own pooling.
_HEAD_PREFIXES = ("head.", "head_dist.", "fc_norm.", "attn_pool.")
_RELATIVE = "relative_position_bias_table"
_SHOWN = 5


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
    def method(self) -> str:
        """What made the weights, as tables print it."""
        return self.content.method

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the head's outputs; empty where the file does not tell."""
        return self.content.classes

    @property
    def features(self) -> str:
        """What is read of it, in words, where it is no ViT; empty for a ViT."""
        return ""

    def require_vit(self, task: str) -> None:
        """Raise an InputError, which names the task, unless it is a ViT."""

    @property
    def maker(self) -> str:
        """How the head came to be; empty where the file does not tell."""
        return self.content.maker

    def guesses_at(self, img_size: int | None) -> dict[str, str]:
        """What was assumed, in words, to the option that states it instead.

        Args:
            img_size: of the input; None for inputs of any size. How positions come to another grid
                counts only where they do.
        """
        arch = self.arch
        is_usual = arch.num_heads * 64 == arch.width
        why = "width / 64" if is_usual else f"usual at width {arch.width}"
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
        resampled = img_size != arch.img_size
        kept = [one for one in self.content.guesses if one != "positions" or resampled]
        return {words[guess][0]: words[guess][1] for guess in kept}

    def say_guesses(self) -> None:
        """One line, once, on what was assumed whatever the size of the input."""
        if found := self.guesses_at(self.arch.img_size):
            options = ", ".join(dict.fromkeys(found.values()))
            _say_once(
                f"{self.info.source}: assumed, as the file does not state it: {', '.join(found)}; "
                f"{options} would"
            )

    def refuse_guesses(self, img_size: int | None) -> None:
        """What `--strict` asks for.

        Raises:
            InputError: something was assumed; the message names it, and what would state it.
        """
        if found := self.guesses_at(img_size):
            listed = ", ".join(f"{words} ({option} states it)" for words, option in found.items())
            made = "; it was so when the file was made" if self.info.format == "micl_bench" else ""
            raise InputError(
                f"--strict: {self.info.source} does not state everything; assumed would be: "
                f"{listed}{made}"
            )

    def normalise(self, images_NCHW: Tensor) -> Tensor:
        """Pixels in 0 to 255 to what this network was trained on."""
        return normalise(images_NCHW, mean=self.content.mean, std=self.content.std)

    def input_size(self, asked: int = 0) -> int:
        """Pixels of a side of the input that is used: as asked, or the checkpoint's own for 0.

        Another one than its own is said at once: it may be meant, or be a recipe for other networks.

        Raises:
            InputError: no whole number of patches.
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
        """What records say of it at an input size: where positions came from, what pixels it got.

        Args:
            img_size: None where every image keeps its own.
        """
        mean, std = (
            " ".join(f"{value:g}" for value in values)
            for values in (self.content.mean, self.content.std)
        )
        arch = self.arch
        stored = arch.img_size // arch.patch_size
        wanted = "each image's grid"
        if img_size is not None:
            wanted = " x ".join(2 * [str(img_size // arch.patch_size)])
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
        """How positions come to another grid, in words."""
        rules = [str(self.content.positions)] if self.arch.absolute_positions else []
        rules += ["relative as BEiT's code"] if self.arch.relative_positions else []
        return "; ".join(rules) or "rotary, nothing to resample"

    def backbone(self, *, img_size: int | None = None, drop_path: float = 0.0) -> Vit:
        """The ViT without a head, in eval mode, positions resampled to `img_size`."""
        arch, state = self._resized(img_size)
        return _filled(
            lambda: arch.build_any(drop_path=drop_path), _without_head(state), self.info.source
        )

    def classifier(self, *, num_classes: int | None = None) -> Vit:
        """The ViT with its stored head, in eval mode.

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
        return _filled(self._build_classifier, self.content.state, self.info.source)

    def _build_classifier(self) -> Vit:
        return _classifier(self.content)

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
        """The backbone under a fresh head, for fine-tuning.

        The head starts almost at zero (std 2e-5, MAE's choice), so that the first steps do not
        shake what was pre-trained. With `pool="avg"`, and without [CLS], the norm moves behind the
        pooling.

        Args:
            fresh_norm: where the norm moves, start it at weight 1 and bias 0, as MAE's code does.
        """
        arch, state = self._resized(img_size)
        kept = _without_head(state)
        generator = torch.Generator().manual_seed(seed)
        kept["head.weight"] = torch.randn(num_classes, arch.width, generator=generator) * 2e-5
        kept["head.bias"] = torch.zeros(num_classes)
        if pool == "avg" or not arch.class_token:
            for part in ("weight", "bias"):
                moved = kept.pop(f"norm.{part}")
                fresh = torch.full_like(moved, float(part == "weight"))
                kept[f"fc_norm.{part}"] = fresh if fresh_norm else moved
        return _filled(
            lambda: arch.build_any(num_classes=num_classes, drop_path=drop_path, pool=pool),
            kept,
            self.info.source,
        )

    def verify(self) -> None:
        """Make sure that the tensors fill backbone and head, and are numbers, without building them.

        Raises:
            InputError: a parameter would stay unfilled, a tensor is left over or of another shape,
                or holds NaN or infinity; the message lists them.
        """
        blocks = {name.split(".")[1] for name in self.content.state if name.startswith("blocks.")}
        if len(blocks) != self.arch.depth:
            raise InputError(
                f"{self.info.source} has tensors of {len(blocks)} blocks, not of {self.arch.depth}"
            )
        _filling(self.arch.build_any, _without_head(self.content.state), self.info.source)
        if self.content.num_classes:
            _filling(self._build_classifier, self.content.state, self.info.source)
        broken = [name for name, value in self.content.state.items() if not _is_finite(value)]
        if broken:
            raise InputError(
                f"{self.info.source} holds NaN or infinity in {_shown(broken)}; its training failed, or "
                "the file is damaged"
            )

    def _resized(self, img_size: int | None) -> tuple[Arch, dict[str, Tensor]]:
        state = dict(self.content.state)
        if img_size in (None, self.arch.img_size):
            return self.arch, state
        arch = dataclasses.replace(self.arch, img_size=img_size)
        if "positions" in self.content.guesses:
            _say_once(
                f"{self.info.source} does not tell how its method brings positions to another size; "
                f"as timm: {self.content.positions} (--format mae, dino, ibot, ... for a method's own)"
            )
        grid, rule = arch.img_size // arch.patch_size, self.content.positions
        prefix = 0 if arch.patch_positions_only else arch.num_prefix_tokens
        for name, value in state.items():
            if name == "pos_embed" and rule.kind == "sincos":
                state[name] = recomputed_sincos(value, grid=grid, num_prefix_tokens=prefix)
            elif name == "pos_embed":
                state[name] = resample_positions(
                    value,
                    grid=grid,
                    num_prefix_tokens=prefix,
                    antialias=rule.antialias,
                    offset=rule.offset,
                )
            elif name.endswith(_RELATIVE):
                state[name] = resample_relative(value, grid=grid)
        return arch, state


@functools.cache
def _say_once(line: str) -> None:
    say(printable(line))


def without_unread_head(content: Converted) -> Converted:
    """Leaves out a head that timm's ViT does not have: pooling by attention, two heads, two norms.

    Its tensors, and those of the head that needs them, get that fate. A norm behind the pooling
    stays where there is no other.
    """
    expected = set(_without_head(content.state))
    if content.num_classes:
        with torch.device("meta"):
            expected = set(_classifier(content).state_dict())
    surplus = content.state.keys() - expected
    if not any(name.startswith((*_HEAD_PREFIXES, "norm.")) for name in surplus):
        return content
    has_norm = "norm.weight" in content.state
    kept = {
        name: value
        for name, value in content.state.items()
        if not name.startswith(_HEAD_PREFIXES) or (name.startswith("fc_norm.") and not has_norm)
    }
    fates = tuple(
        dataclasses.replace(fate, kind="left out", target="", reason="head of another kind")
        if fate.target and not set(fate.target.split(", ")) & kept.keys()
        else fate
        for fate in content.fates
    )
    return dataclasses.replace(content, state=kept, num_classes=0, classes=(), fates=fates)


def _classifier(content: Converted) -> Vit:
    return content.arch.build_any(num_classes=content.num_classes, pool=content.pool)


def _without_head(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's tensors; a norm that moved behind the pooling moves back."""
    kept = {name: value for name, value in state.items() if not name.startswith(_HEAD_PREFIXES)}
    for part in ("weight", "bias"):
        if f"norm.{part}" not in kept and f"fc_norm.{part}" in state:
            kept[f"norm.{part}"] = state[f"fc_norm.{part}"]
    return kept


def _filled(build: Callable[[], Vit], state: dict[str, Tensor], source: str) -> Vit:
    model = _filling(build, state, source)
    if any(True for _ in model.buffers()):
        # Fixed tables are computed while a model is built; `meta` computes nothing.
        model = build()
        model.load_state_dict(state)
    else:
        expected = model.state_dict()
        copies = {name: value.to(expected[name].dtype, copy=True) for name, value in state.items()}
        model.load_state_dict(copies, assign=True)
    return model.eval()


def _filling(build: Callable[[], Vit], state: dict[str, Tensor], source: str) -> Vit:
    """The model without numbers (random ones would take seconds), once the tensors fit it."""
    with torch.device("meta"):
        model = build()
    expected = model.state_dict()
    problems = [f"missing {name}" for name in sorted(expected.keys() - state.keys())]
    problems += [f"unexpected {name}" for name in sorted(state.keys() - expected.keys())]
    problems += [
        f"{name} is {tuple(state[name].shape)}, needed {tuple(expected[name].shape)}"
        for name in sorted(expected.keys() & state.keys())
        if state[name].shape != expected[name].shape
    ]
    if problems:
        raise InputError(f"{source} does not fit the architecture: {_shown(problems, '; ')}")
    return model


def _is_finite(value: Tensor) -> bool:
    # A sum is quick; where it is not finite, each number is asked.
    return bool(value.sum().isfinite()) or bool(value.isfinite().all())


def _shown(names: list[str], separator: str = ", ") -> str:
    rest = f"{separator}and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return separator.join(names[:_SHOWN]) + rest

"""Pre-trainings that the user states for files that do not state theirs."""

import dataclasses
from typing import Any

from micl_bench.backbone import Arch
from micl_bench.checkpoints._checkpoint import Checkpoint
from micl_bench.checkpoints._metadata import options_of
from micl_bench.records.weights import Stage
from micl_bench.runtime.errors import InputError

_LARGEST_SEED = 1 << 63
_LONGEST_NAME = 100
_SAYS_SEED = ("args", "config", "cfg", "hyper_parameters", "opt")
"""Training codes keep their options under these names in the files that they write."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statement:
    """A pre-training that was done with several seeds, and the seed of this file."""

    name: str
    """One name for all files of that pre-training, which tables print."""
    seed: int

    def __post_init__(self) -> None:
        """Raise an InputError for a name or seed that records cannot hold."""
        if not self.name.strip() or len(self.name) > _LONGEST_NAME or not self.name.isprintable():
            raise InputError(
                f"--pretrain-name is one line of 1 to {_LONGEST_NAME} characters, not {self.name!r:.120}"
            )
        if not 0 <= self.seed < _LARGEST_SEED:
            raise InputError(f"--pretrain-seed {self.seed}; give a whole number from 0 to 2^63 - 1")

    def stage(self, arch: Arch) -> Stage:
        """Return the training as a stage of weights.

        Its fingerprint is also of the network's sizes: networks of different sizes under one name are
        no seeds of one pre-training, whatever is stated.
        """
        sizes = {"width": arch.width, "depth": arch.depth, "patch_size": arch.patch_size}
        settings = {"stated": self.name, **sizes}
        return Stage.of("pretrain", self.name, settings, seed=self.seed, stated=True)

    def origin(self, earlier: tuple[Stage, ...], *, arch: Arch, source: str) -> tuple[Stage, ...]:
        """Return the trainings behind weights, given those that their file states.

        Raises:
            InputError: the file states another beginning.
        """
        first = next((stage for stage in earlier if stage.task in ("initialise", "pretrain")), None)
        if first is None:
            return (self.stage(arch), *earlier)
        if first == self.stage(arch):
            return earlier
        if first.stated:
            raise InputError(
                f"{source} was made under the statement that it is of {first.method!r}, seed "
                f"{first.seed}; leave --pretrain-name and --pretrain-seed out, or repeat that one"
            )
        what = "its weights were drawn" if first.task == "initialise" else "its pre-training was"
        raise InputError(
            f"{source} says itself that {what} with seed {first.seed} ({first.method}); leave "
            "--pretrain-name and --pretrain-seed out"
        )


def stated(checkpoint: Checkpoint, statement: Statement | None) -> Checkpoint:
    """Return the checkpoint with an origin that begins with the user's statement.

    Raises:
        InputError: the file itself states something else.
    """
    if statement is None:
        return checkpoint
    content, source = checkpoint.content, checkpoint.info.source
    origin = statement.origin(content.origin, arch=content.arch, source=source)
    if content.own_seed not in (None, statement.seed):
        raise InputError(
            f"{source} says itself that it was trained with seed {content.own_seed}, not with "
            f"--pretrain-seed {statement.seed}; give that one"
        )
    renamed = dataclasses.replace(content, origin=origin, method=statement.name)
    return dataclasses.replace(checkpoint, content=renamed)


def seed_in(content: dict[str, Any]) -> int | None:
    """Return the seed of training that a file of other code states, or None."""
    places = [content, *(options_of(content, name) for name in _SAYS_SEED)]
    return next((place["seed"] for place in places if type(place.get("seed")) is int), None)

"""The origin of weights: the checkpoint that was evaluated, and the trainings behind it."""

import dataclasses
from typing import Any

from micl_bench.runtime.files import digest_json
from micl_bench.runtime.validate import Line


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One training, or drawing, that weights went through, as their file states it.

    Its cost is in its own record alone, so that the same training gives the same bytes.
    """

    task: Line
    """`initialise`, `pretrain`, `finetune` or `linear`."""
    method: Line
    fingerprint: str
    """SHA-256 of its settings: stages of one fingerprint differ by their seed alone."""
    seed: int
    epochs: float
    data: Line
    """Name of the training images; empty for none."""
    data_digest: str
    settings: dict[str, Any]
    stated: bool = False
    """The user stated it on the command line or in a suite; the file does not say."""

    @classmethod
    def of(
        cls,
        task: str,
        method: str,
        settings: dict[str, Any],
        *,
        seed: int,
        epochs: float = 0,
        data: str = "",
        data_digest: str = "",
        stated: bool = False,
    ) -> "Stage":
        """Return the stage of those settings, with their fingerprint."""
        return cls(
            task=task,
            method=method,
            fingerprint=digest_json(settings),
            seed=seed,
            epochs=epochs,
            data=data,
            data_digest=data_digest,
            settings=settings,
            stated=stated,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """The source of the evaluated weights."""

    source: str
    """The user's words: a file, `timm:NAME` or `random:ARCH`."""
    format: str
    digest: str
    """SHA-256 of the file, or of all weights where there is no file."""
    branch: str = ""
    """The name of one of several networks in the file; empty where there is one."""
    network: str = ""
    """Sizes, the number of heads, and the norms' epsilon."""
    positions: str = ""
    """The resampling of position embeddings to the input's grid; empty where they are as stored."""
    normalisation: str = ""
    """Mean and standard deviation of the pixels that the network was trained on, and was given."""
    guesses: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    """Assumptions that neither the file nor the user states, such as `2 heads (width / 64)`; tables mark
    the number. Not compared: the other fields hold them, as if they were stated."""
    origin: tuple[Stage, ...] = dataclasses.field(default=(), compare=False)
    """The trainings behind the weights, oldest first; empty where the file states none. Not compared."""

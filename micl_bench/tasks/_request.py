"""What a task is given: what is asked for, and the way from there to a record."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from micl_bench.records.declared import Task
from micl_bench.records.result import Result
from micl_bench.tasks._asked import Asked

if TYPE_CHECKING:
    from micl_bench.engine.frozen.feature_cache import Features
    from micl_bench.tasks._session import Session, TaskRecipe


R = TypeVar("R", bound="TaskRecipe")


@dataclasses.dataclass(kw_only=True)
class Request(Asked):
    """An evaluation that is asked for, and what a task makes of it."""

    _opened: "Session[Any] | None" = dataclasses.field(default=None, init=False, repr=False)

    def open(self, kind: "type[R]") -> "Session[R]":
        """Resolve the recipe, read the checkpoint, start the clock.

        Args:
            kind: the dataclass that the recipe is read as.

        Raises:
            InputError: a wrong recipe, override or checkpoint.
        """
        from micl_bench.tasks._session import Session

        self._opened = session = Session(self, kind)
        return session

    @property
    def session(self) -> "Session[Any]":
        """The session that `open` gave, or one of a recipe that says how images are read alone."""
        from micl_bench.tasks._session import PlainRecipe

        return self._opened or self.open(PlainRecipe)

    def features(self, split: str = "val") -> "Features":
        """Features of every image of `<data>/<split>` by the frozen backbone, which all tasks share.

        Raises:
            InputError: the folder is missing or damaged, or an image cannot be decoded.
        """
        from micl_bench.data.source import open_source

        return self.session.features(open_source(self.data / split))

    def measure(
        self, task: Task, metrics: Mapping[str, float] = MappingProxyType({}), **more: Any
    ) -> list[Result]:
        """The record of what was measured: `Session.measure` says what `more` may be.

        Data, checkpoint, recipe, digests, time and environment come from this request.

        Raises:
            InputError: a metric that the task does not declare.
        """
        return self.session.measure(task, metrics, **more)

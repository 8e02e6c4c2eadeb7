"""One file per pre-training method; `Objective` says what each one states."""

from micl_bench.objectives._bound import Bound, fill_own
from micl_bench.objectives._crops import whole_crops
from micl_bench.objectives._objective import (
    Objective,
    ObjectiveConfig,
    Watch,
    disjoint_views,
)
from micl_bench.objectives._output import Output
from micl_bench.runtime import plugins

__path__ = plugins.SearchPath("objectives", __path__)

__all__ = [
    "Bound",
    "Objective",
    "ObjectiveConfig",
    "Output",
    "Watch",
    "disjoint_views",
    "fill_own",
    "find_objective",
    "require_declared",
    "whole_crops",
]


def find_objective(name: str) -> type[Objective]:
    """Return the class that an objective's file declares.

    Raises:
        InputError: there is no such objective, or its `OBJECTIVE` is no subclass of `Objective`.
    """
    declared: type[Objective] = plugins.find(
        "objectives", name, OBJECTIVE=type[Objective]
    ).OBJECTIVE
    return declared


def require_declared(config: ObjectiveConfig) -> None:
    """Raise an InputError where the file that a configuration comes from declares no objective."""
    if name := plugins.name_of("objectives", type(config).__module__):
        find_objective(name)

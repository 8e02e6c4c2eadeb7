"""One file per pre-training method; `Objective` says what each one states."""

from micl_bench.objectives._objective import (
    Objective,
    ObjectiveConfig,
    Output,
    Watch,
    disjoint_views,
)
from micl_bench.runtime import plugins

__path__ = plugins.SearchPath("objectives", __path__)

__all__ = ["Objective", "ObjectiveConfig", "Output", "Watch", "disjoint_views"]

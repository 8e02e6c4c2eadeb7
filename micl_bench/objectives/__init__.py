"""One file per pre-training method; what each states is in `Objective`."""

from micl_bench.objectives._objective import (
    Objective,
    ObjectiveConfig,
    Output,
    RunSizes,
    Watch,
    find_objective,
)

__all__ = ["Objective", "ObjectiveConfig", "Output", "RunSizes", "Watch", "find_objective"]

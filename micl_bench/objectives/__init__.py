"""One file per pre-training method; what each states is in `Objective`."""

from micl_bench.objectives._objective import Objective, ObjectiveConfig, Output, Watch
from micl_bench.runtime import plugins

__path__ = plugins.SearchPath("objectives", __path__)

__all__ = ["Objective", "ObjectiveConfig", "Output", "Watch"]

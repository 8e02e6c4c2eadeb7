"""MiCL-Bench: pre-train ViTs by masked image contrastive learning, and benchmark any ViT.

What the command line does, in Python: `pretrain`, `evaluate`, `load_results`, `compare`, `report`; and
models by file or name: `load_backbone`, `load_classifier`. Bad input raises `InputError`, one line that
says what is allowed.
"""

# Not typing's, which would be the first thing that every command loads.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from micl_bench.checkpoints import load_backbone as load_backbone
    from micl_bench.checkpoints import load_classifier as load_classifier
    from micl_bench.engine.pretraining.pretrain import pretrain as pretrain
    from micl_bench.records.frame import load_results as load_results
    from micl_bench.report import build_report as report
    from micl_bench.report.compare.comparison_output import compare as compare
    from micl_bench.runtime.errors import InputError as InputError
    from micl_bench.tasks._evaluate import evaluate as evaluate

__version__ = "0.1.0"

_PLACES = {
    "InputError": "runtime.errors",
    "compare": "report.compare.comparison_output",
    "evaluate": "tasks._evaluate",
    "load_backbone": "checkpoints",
    "load_classifier": "checkpoints",
    "load_results": "records.frame",
    "pretrain": "engine.pretraining.pretrain",
}
"""Name to the module that has it. `report` is a package, and can be called."""

__all__ = ["__version__", "report", *_PLACES]


def __getattr__(name: str) -> object:
    # On first use: importing the package, as `micl-bench --help` does, must not import torch.
    import importlib

    if name == "report":
        return importlib.import_module("micl_bench.report")
    if name in _PLACES:
        return getattr(importlib.import_module(f"micl_bench.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'micl_bench' has no attribute {name!r}")

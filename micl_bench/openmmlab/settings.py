"""The part of a config that moves the number: fingerprints are made of it, and a run that goes on may
not change it.

Not part of it are the checkpoint, the seed, the folders, the numbers of workers, processes and passes,
and settings that only say how a run is watched.
"""

from typing import Any

from micl_bench.openmmlab.configs import evaluates_each_image, moved, parts_on_maps

# Names that mmengine's runner reads and on which a result can depend; others are the author's own.
_READ = (
    *("default_scope", "model", "data_preprocessor", "train_dataloader", "val_dataloader"),
    *("val_evaluator", "optim_wrapper", "param_scheduler", "train_cfg", "val_cfg", "default_hooks"),
    *("custom_hooks", "model_wrapper_cfg", "sync_bn", "find_unused_parameters"),
    "efficient_conv_bn_eval",
)
_LOADING = ("num_workers", "persistent_workers", "prefetch_factor", "pin_memory", "timeout")
_APART: dict[str, tuple[str, ...]] = {
    "train_dataloader": ("batch_size", *_LOADING),
    "val_dataloader": _LOADING,
    # The number of images per step is a setting of its own.
    "optim_wrapper": ("accumulative_counts",),
    # Looks in between; the last step is always followed by one.
    "train_cfg": ("val_interval", "val_begin", "dynamic_intervals", "fast_forward_on_resume"),
    "default_hooks": ("logger", "checkpoint", "timer", "visualization", "runtime_info"),
    "val_evaluator": (
        *("collect_dir", "collect_device", "backend", "outfile_prefix", "output_dir", "prefix"),
    ),
}
_OF_THE_CHECKPOINT = ("checkpoint", "seed", "arch", "layout", "branch", "activation_checkpointing")
_WATCHING = (
    *("MiCLPrecision", "MiCLSameWeights", "Evidence"),
    *("LoggerHook", "IterTimerHook", "RuntimeInfoHook", "ProfilerHook", "NPUProfilerHook"),
    *("DetVisualizationHook", "SegVisualizationHook", "MemoryProfilerHook", "EmptyCacheHook"),
    *("CheckInvalidLossHook", "CheckpointHook"),
)


def what_counts(config: dict[str, Any], data: str) -> dict[str, Any]:
    """The part of a config, given as plain values, that moves the number; `data` is its data folder."""
    kept = {name: config[name] for name in _READ if config.get(name) is not None}
    for name, keys in _APART.items():
        if isinstance(kept.get(name), dict):
            kept[name] = _without(kept[name], keys)
        elif isinstance(kept.get(name), list):
            parts = [_without(part, keys) for part in kept[name]]
            # A list of one evaluator is that evaluator.
            kept[name] = parts[0] if len(parts) == 1 else parts
    if isinstance(kept.get("val_dataloader"), dict) and evaluates_each_image(config.get("val_cfg")):
        kept["val_dataloader"] = _without(kept["val_dataloader"], ("batch_size",))
    if isinstance(model := kept.get("model"), dict):
        kept["model"] = _model(model)
    imports = (config.get("custom_imports") or {}).get("imports") or ()
    if foreign := [name for name in imports if not name.startswith("micl_bench.")]:
        kept["custom_imports"] = foreign
    if hooks := kept.pop("custom_hooks", None):
        kept["custom_hooks"] = [hook for hook in hooks if hook.get("type") not in _WATCHING]
    shorter = {name: value for name, value in kept.items() if value not in ({}, [])}
    # The path of the data is not part of it.
    return {name: moved(value, data, "<data>") for name, value in shorter.items()}


def _model(model: dict[str, Any]) -> dict[str, Any]:
    """The model's config without the values that its checkpoint gives: itself and its maps' width."""
    widths = {id(part) for part in parts_on_maps(model)}

    def strip(part: Any) -> Any:
        if isinstance(part, list):
            return [strip(one) for one in part]
        return _without(part, ("in_channels",)) if id(part) in widths else part

    stripped = {name: strip(part) for name, part in model.items()}
    return stripped | {"backbone": _without(model.get("backbone", {}), _OF_THE_CHECKPOINT)}


def _without(part: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in names}

"""A plain mmengine config file becomes one that names checkpoint, data and seed, and is checked.

A config can be used here if it has `data_root` at its top, which every path of the data set begins
with, and `model.backbone` of type `MiCLViT`.
"""

import importlib.util
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from micl_bench.checkpoints import Checkpoint
from micl_bench.openmmlab.overrides import apply, check_bounds
from micl_bench.records.result import visible_path
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.shipped import recipe_file
from micl_bench.runtime.values import Seed, checked

_PACKAGES = {"mmseg": "onedl-mmsegmentation", "mmdet": "onedl-mmdetection"}
_UNPICKLING = ("Pretrained", "PretrainedInit")
# Keys whose values other options of the command line give.
_SAID = {
    "data_root": "the data folder is what --data says",
    "model.backbone.checkpoint": "the checkpoint is what --checkpoint says",
    "model.backbone.seed": "the seed is randomness.seed",
}
# Half a grey level of 255: what rounding in a config may take away.
_PIXEL_TOLERANCE = 0.5


def resolve(
    path: Path,
    *,
    checkpoint: str,
    data: Path,
    seed: int | None,
    overrides: Sequence[str],
    arch: str | None = None,
    layout: str | None = None,
    branch: str | None = None,
    library: str = "",
) -> Config:
    """Read a config, apply `a.b=value` overrides, put checkpoint, data and seed in, check the paths.

    `arch`, `layout` and `branch` go to `model.backbone`, where they are given. `library` is `mmseg` or
    `mmdet`, whose config it must be; either if empty.

    Raises:
        InputError: unreadable config, unknown key, missing data, or a config that would unpickle.
    """
    for override in overrides:
        if (key := override.partition("=")[0]) in _SAID:
            raise InputError(f"{key}: {_SAID[key]}; leave the override out")
    config = read(path, overrides)
    _check_model(config, path, library)
    if seed is None:
        seed = checked(Seed, config.get("randomness", {}).get("seed") or 0, "randomness.seed")
    asked = {"arch": arch, "layout": layout, "branch": branch}
    config.model.backbone.update(
        # As records show it; `timm:NAME` and `random:ARCH` stay.
        checkpoint=visible_path(checkpoint) if Path(checkpoint).is_file() else checkpoint,
        seed=seed,
        **{name: value for name, value in asked.items() if value is not None},
    )
    config = with_data(config, path, data)
    # CUDA has no deterministic kernel for some of the operators; on CPU all of them have.
    config.randomness = {"seed": seed, "deterministic": not torch.cuda.is_available()}
    _refuse_pickles(config, path)
    _check_moved(config, path)
    _require_layout(config, path, data)
    return config


def read(path: Path, overrides: Sequence[str]) -> Config:
    """A config with `a.b=value` overrides applied, nothing else changed.

    Raises:
        InputError: unreadable config, unknown key, or a value that cannot be.
    """
    config = _read(path)
    for override in overrides:
        apply(config, override)
    check_bounds(config)
    return config


def with_data(config: Config, path: Path, data: Path) -> Config:
    """Replace the config's own `data_root` wherever a path begins with it.

    Raises:
        InputError: it has none, or there is no such folder.
    """
    old = config.get("data_root")
    if not isinstance(old, str) or not old:
        raise InputError(f"{path} has no data_root at its top to put the data folder in")
    if not data.is_dir():
        raise InputError(f"no data folder at {data}")
    content = moved(config.to_dict(), old.rstrip("/"), visible_path(data))
    return Config(content, filename=config.filename)


def moved(node: Any, old: str, new: str) -> Any:
    """Replace `old` by `new` wherever a path in a config begins with it."""
    if isinstance(node, dict):
        return {key: moved(value, old, new) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(moved(value, old, new) for value in node)
    if isinstance(node, str) and (node == old or node.startswith(f"{old}/")):
        return new + node[len(old) :]
    return node


def fit_to(config: Config, checkpoint: Checkpoint, overrides: Sequence[str]) -> None:
    """Fill in the width of the ViT where maps of it go in, and see that it gets its own pixels.

    Every map of a `MiCLViT` has the ViT's width, so a neck or head on it can have no other
    `in_channels`: a config that was written for ViT-B serves any ViT.

    Raises:
        InputError: `data_preprocessor` has not the mean and deviation of the pixels that the
            checkpoint was trained on, unless an override says so.
    """
    for part in parts_on_maps(config.model):
        if (channels := part.get("in_channels")) is not None:
            one = not isinstance(channels, list | tuple)
            width = checkpoint.arch.width
            part["in_channels"] = width if one else [width] * len(channels)
    _check_pixels(config, checkpoint, {override.partition("=")[0] for override in overrides})


def parts_on_maps(model: Any) -> list[Any]:
    """The parts of a model's config that the backbone's maps go into: its neck, else its heads."""
    names = ("neck",) if model.get("neck") else ("decode_head", "auxiliary_head")
    found = [model.get(name) for name in names]
    flat = [part for parts in found for part in (parts if isinstance(parts, list) else [parts])]
    return [part for part in flat if isinstance(part, dict)]


def _check_pixels(config: Config, checkpoint: Checkpoint, overridden: set[str]) -> None:
    place = "data_preprocessor" if config.get("data_preprocessor") else "model.data_preprocessor"
    given = config.get("data_preprocessor") or config.model.get("data_preprocessor") or {}
    source = checkpoint.info.source
    for name, values in (("mean", checkpoint.content.mean), ("std", checkpoint.content.std)):
        wanted, found = [round(255 * value, 3) for value in values], given.get(name)
        if overridden & {place, f"{place}.{name}"} or _close(found, wanted):
            continue
        text = f"{place}.{name}={str(wanted).replace(' ', '')}"
        fix = f"--set {text} (or others, on purpose)" if name in given else f"write {text} into it"
        raise InputError(
            f"{place}.{name} is {list(found) if found else 'not set'}, but {source} was trained on "
            f"pixels of another {name}: {fix}"
        )
    if not given.get("bgr_to_rgb") and not overridden & {place, f"{place}.bgr_to_rgb"}:
        raise InputError(
            f"{place}.bgr_to_rgb is not true: images are read blue first, {source} was trained red "
            "first; set it (or --set it to False, on purpose)"
        )


def _close(found: Any, wanted: list[float]) -> bool:
    if not isinstance(found, list | tuple) or len(found) != len(wanted):
        return False
    return all(abs(a - b) <= _PIXEL_TOLERANCE for a, b in zip(found, wanted, strict=True))


def evaluates_each_image(val_cfg: Any) -> bool:
    """Return True where images are evaluated one by one, however many are read at a time: where the
    loop is mmengine's own."""
    kind = (val_cfg or {}).get("type") or "ValLoop"
    return getattr(kind, "__name__", str(kind)).rpartition(".")[2].rstrip("'>") == "ValLoop"


def as_json(config: Config) -> dict[str, Any]:
    """The config as plain values that JSON can hold."""
    return json.loads(json.dumps(config.to_dict(), default=str))


def _read(given: Path) -> Config:
    path = recipe_file(given)
    try:
        return Config.fromfile(path)
    except InputError:
        raise
    # A config is a program: it can raise anything, and leave.
    except (Exception, SystemExit) as error:
        gist = f"{type(error).__name__}: {error}".rstrip(": ")
        raise InputError(f"{path} is no config that mmengine can read: {gist}") from error


def _check_model(config: Config, path: Path, library: str) -> None:
    scope, known = config.get("default_scope"), [library] if library else list(_PACKAGES)
    if scope not in known:
        raise InputError(f"{path} has default_scope {scope!r}; needed is {' or '.join(known)}")
    if importlib.util.find_spec(scope) is None:
        raise InputError(
            f"{path} needs {_PACKAGES[scope]}, which is not installed: "
            "pip install 'micl-bench[openmmlab]'"
        )
    model = config.get("model")
    backbone = model.get("backbone") if isinstance(model, dict) else None
    if not isinstance(backbone, dict) or backbone.get("type") != "MiCLViT":
        raise InputError(f"{path} has no model.backbone of type MiCLViT to put the checkpoint in")


def _check_moved(config: Config, path: Path) -> None:
    """A base config joins paths with its own `data_root`, which a later one no longer reaches."""
    places = {"train_dataloader": "data_root", "val_dataloader": "data_root"}
    for name, key in (places | {"val_evaluator": "ann_file"}).items():
        for node in dicts(config.get(name)):
            place = node.get(key)
            if place and not Path(place).is_relative_to(config.data_root):
                raise InputError(
                    f"{path.name}: {name} has {key} {place!r}, which does not begin with the config's "
                    "data_root, so the data folder cannot take its place; write data_root there too"
                )


def _refuse_pickles(config: Config, path: Path) -> None:
    """mmengine's own loading would run code from a file; weights come by `checkpoint` alone."""
    asked = [key for key in ("load_from", "resume") if config.get(key)]
    kinds = [getattr(node.get("type"), "__name__", str(node.get("type"))) for node in dicts(config)]
    # By any of the names that mmengine's registries take, scoped and dotted ones too.
    asked += [f"type={kind}" for kind in kinds if kind.rpartition(".")[2] in _UNPICKLING]
    if asked:
        raise InputError(
            f"{path} asks mmengine to load weights ({', '.join(asked)}), which would unpickle them; "
            "remove it and give the file as the checkpoint"
        )


def dicts(node: Any) -> Iterator[Any]:
    """Every dictionary in a config, itself included."""
    if isinstance(node, dict | Config):
        yield node
        node = list(node.values())
    if isinstance(node, list | tuple):
        for value in node:
            yield from dicts(value)


def _require_layout(config: Config, path: Path, data: Path) -> None:
    """Refuse a folder that is laid out in another way, with what it lacks and where that may be."""
    needed: dict[str, bool] = {}
    # Without links, so that `..` in a relative path means the same to the file system.
    place = data.resolve()
    for loader in ("train_dataloader", "val_dataloader"):
        for dataset in dicts(config[loader].dataset):
            root = Path(dataset.get("data_root") or "").resolve()
            for prefix in (dataset.get("data_prefix") or {}).values():
                needed.setdefault(os.path.relpath(root / prefix, place), False)
            if file := dataset.get("ann_file"):
                needed.setdefault(os.path.relpath(root / file, place), True)

    def lacks(folder: Path) -> list[str]:
        return [
            name
            for name, is_file in needed.items()
            if not ((folder / name).is_file() if is_file else (folder / name).is_dir())
        ]

    if not (missing := lacks(place)):
        return
    inside = sorted(child for child in data.iterdir() if not child.name.startswith("."))
    names = ", ".join(child.name for child in inside[:5]) + (", ..." if inside[5:] else "")
    fits = next((child for child in inside if not lacks(child)), None)
    fix = f"{fits} has it: give that as --data" if fits else f"it holds {names or 'nothing'}"
    raise InputError(
        f"{data} is not laid out for {path.name}: no {' and no '.join(missing)} in it (needed: "
        f"{', '.join(needed)}); {fix}"
    )

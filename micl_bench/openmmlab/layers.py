"""What `MiCLViTConstructor` makes of a config, without training it."""

import warnings
from collections.abc import Sequence
from pathlib import Path

from micl_bench.openmmlab.configs import read
from micl_bench.openmmlab.iteration import build_model
from micl_bench.openmmlab.optim import MiCLViTConstructor
from micl_bench.runtime.errors import InputError

HEADER = ("parameter", "scale", "learning rate", "weight decay")


def layer_rows(path: Path, overrides: Sequence[str]) -> list[tuple[str, str, str, str]]:
    """A row below `HEADER` for each parameter that a config trains; the rate is the highest it gets.

    The config's model is built, with the checkpoint that it names; no data is needed.

    Raises:
        InputError: unreadable config, another constructor, or a model that cannot be built.
    """
    config = read(path, overrides)
    options = {**(config.get("optim_wrapper") or {})}
    if (kind := options.pop("constructor", None)) != "MiCLViTConstructor":
        raise InputError(
            f"{path} has optim_wrapper.constructor {kind!r}; layers are those of MiCLViTConstructor"
        )
    paramwise_cfg = options.pop("paramwise_cfg", None)
    constructor = MiCLViTConstructor(options, paramwise_cfg)
    try:
        # What the libraries warn of is about training.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = build_model(config)
    except InputError:
        raise
    # A config is a program of the user's: whatever its parts refuse is about the config.
    except Exception as error:
        raise InputError(
            f"{path}: no model can be built: {' '.join(str(error).split())}"
        ) from error
    return [
        (name, f"{scale:.6g}", f"{constructor.base_lr * scale:.6g}", f"{decay:g}")
        for name, scale, decay in constructor.rows(model)
    ]

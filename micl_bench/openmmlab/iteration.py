"""One training iteration of a config's model with images in memory: no file is read but the checkpoint.

The model, its optimiser and its precision are the config's; images and truth are made up, of the size
and number that the config trains on.
"""

import dataclasses
import importlib
import io
from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from micl_bench.openmmlab.input_size import Size, training_size
from micl_bench.openmmlab.isolation import no_trace, quiet
from micl_bench.openmmlab.synthetic import detected, segmented
from micl_bench.runtime.errors import InputError

_ENDLESS = 1 << 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Iteration:
    """A model in training and what it is trained on."""

    step: Callable[[], object]
    """Forward, backward and the optimiser's step on the same images."""
    images: int
    size: Size


def import_library(config: Config) -> None:
    """What building a model would import, so that its memory does not count as the model's."""
    importlib.import_module(f"{config.default_scope}.models")


def build_model(config: Config) -> nn.Module:
    """The config's model on the CPU, as it is in one process, its checkpoint loaded."""
    model_config = {**config.model}
    if preprocessor := config.get("data_preprocessor"):
        model_config.setdefault("data_preprocessor", preprocessor)
    with DefaultScope.overwrite_default_scope(config.default_scope), torch.random.fork_rng([]):
        model: nn.Module = revert_sync_batchnorm(MODELS.build(model_config))
    return model


def size_in_training(config: Config, model: Any) -> Size:
    """As its pipeline says, else what the backbone was made for."""
    if size := training_size(config):
        return size
    side = config.model.backbone.get("img_size") or model.backbone.arch.img_size
    return side, side


def made_up_batch(config: Config, images: int, size: Size) -> dict[str, Any]:
    """What a data loader would give to the model of the config: random pixels with a truth."""
    inputs = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for _ in range(images)]
    if config.default_scope == "mmseg":
        samples = segmented(torch.stack(inputs))
    else:
        samples = detected(images, size)
    return {"inputs": inputs, "data_samples": samples}


def training_iteration(config: Config, *, device: torch.device, images: int = 0) -> Iteration:
    """Build everything; `images` of a pass are the config's own if 0.

    Raises:
        InputError: the model or its optimiser cannot be built.
    """
    with DefaultScope.overwrite_default_scope(config.default_scope):
        try:
            model: Any = build_model(config).to(device).train()
            # Constructors log every parameter, and a logger that is there keeps its terminal.
            with no_trace(), quiet(io.StringIO()):
                MMLogger.get_instance("iteration")
                wrapper = build_optim_wrapper(model, config.optim_wrapper)
        except InputError:
            raise
        # A config is a program of the user's: whatever its parts refuse is about the config.
        except Exception as error:
            raise InputError(
                f"the config cannot be built: {' '.join(str(error).split())}"
            ) from error
    wrapper.initialize_count_status(model, 0, _ENDLESS)
    images = images or config.train_dataloader.batch_size
    size = size_in_training(config, model)
    data = made_up_batch(config, images, size)

    def step() -> None:
        with DefaultScope.overwrite_default_scope(config.default_scope):
            model.train_step(dict(data), wrapper)

    return Iteration(step=step, images=images, size=size)

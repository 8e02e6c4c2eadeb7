"""Weights of `timm:NAME`: from timm's cache without a network, downloaded, or refused at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import timm
import torch

from micl_bench.backbone import timm_vit
from micl_bench.checkpoints._checkpoint import Checkpoint
from micl_bench.checkpoints._in_memory import digest_state, vit_content
from micl_bench.checkpoints._infer import arch_of
from micl_bench.records.weights import CheckpointInfo
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.network import UnreachableError, check_reachable, weights_out_of_reach


def from_timm(name: str) -> Checkpoint:
    """Return any ViT of timm with its weights, and its head where `Arch` has one of that kind.

    Raises:
        InputError: timm knows no weights of that name, or they are neither in the cache nor to be had.
    """
    arch = arch_of(timm_vit(name), name)
    model = _model(name)
    config: Any = model.pretrained_cfg or {}
    content = vit_content(model, arch, name, mean=tuple(config["mean"]), std=tuple(config["std"]))
    digest = digest_state(content.state)
    info = CheckpointInfo(source=f"timm:{name}", format="timm", digest=digest)
    return Checkpoint.verified(info, content)


def _model(name: str) -> Any:
    config = timm.models.get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        raise InputError(f"timm knows no weights of {name}")
    try:
        with _network(config):
            return timm.create_model(name, pretrained=True)
    except UnreachableError as error:
        raise weights_out_of_reach(name, _place(config), error) from error
    # The client of the hub has errors of its own, other ones by version.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"timm could not give the weights of {name}: {reason}") from error


@contextmanager
def _network(config: Any) -> Iterator[None]:
    """Keep the hub's client off the network where the file is in its cache; else check the server."""
    from huggingface_hub import constants

    is_cached, wanted = _is_cached(config), constants.HF_HUB_OFFLINE
    if not is_cached and wanted and config.hf_hub_id:
        raise UnreachableError("HF_HUB_OFFLINE is set")
    if not is_cached:
        check_reachable(_place(config))
    try:
        # Asked whether there is a newer file, a client waits for minutes where nobody answers.
        constants.HF_HUB_OFFLINE = wanted or (is_cached and bool(config.hf_hub_id))
        yield
    finally:
        constants.HF_HUB_OFFLINE = wanted


def _place(config: Any) -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT if config.hf_hub_id else config.url)


def _is_cached(config: Any) -> bool:
    from huggingface_hub import constants, try_to_load_from_cache

    if not config.hf_hub_id:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        return (folder / Path(urlsplit(config.url).path).name).is_file()
    repository, _, revision = config.hf_hub_id.partition("@")
    named = config.hf_hub_filename or "pytorch_model.bin"
    # timm looks for safetensors first.
    names = {named, named.replace("pytorch_model.bin", "model.safetensors"), "model.safetensors"}
    names.add(f"{named.removesuffix('.bin')}.safetensors")
    options = {"revision": revision or None, "cache_dir": constants.HF_HUB_CACHE}
    return any(isinstance(try_to_load_from_cache(repository, one, **options), str) for one in names)

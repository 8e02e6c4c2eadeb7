"""What stored features depend on: the same, and they need not be computed again."""

import dataclasses
from importlib import metadata
from typing import Any

import torch

from micl_bench.checkpoints import Checkpoint
from micl_bench.data.folder import Folder
from micl_bench.data.packed.store import CHECKSUMS_FILE
from micl_bench.data.pixels import Pixels
from micl_bench.data.source import Source
from micl_bench.engine.frozen.features import reading
from micl_bench.engine.frozen.readouts import VERSION
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json

# What computes the features, from the file's bytes on.
_PACKAGES = ("torch", "timm", "pillow")


def describe_features(
    checkpoint: Checkpoint, source: Source, pixels: Pixels, precision: str, device: torch.device
) -> dict[str, Any]:
    """All that a feature's bits depend on, as far as it is known before they are computed.

    The weights and how they are used, the images and how they are read, the precision, the kind of
    device, the packages' versions, and of this project's own code a number, `readouts.VERSION`.
    """
    content = checkpoint.content
    return {
        "checkpoint": {
            "digest": checkpoint.info.digest,
            "format": checkpoint.info.format,
            "branch": content.branch,
            "arch": dataclasses.asdict(checkpoint.arch),
            "positions": str(content.positions),
            "mean": content.mean,
            "std": content.std,
        },
        "pixels": reading(source, pixels),
        "data": {
            "digest": source.describe().digest,
            "images": len(source),
            "classes": digest_json(source.classes),
            # Of a store's every pixel: packed elsewhere, its images may differ by a grey level.
            "packed": "" if isinstance(source, Folder) else source.header.files[CHECKSUMS_FILE],
            "written": _written(source),
        },
        "precision": precision,
        "device": device.type,
        "readouts": VERSION,
        "packages": {package: metadata.version(package) for package in _PACKAGES},
    }


def images_are(described: dict[str, Any], source: Source) -> bool:
    """Whether a source's images are still those that were described on this host."""
    return bool(described["data"]["written"] == _written(source))


def _written(source: Source) -> str:
    """When images were last written: another picture of the same name and size is another image.

    `cp -p` and `rsync -t` give it the old one's time of writing. The time of the last change to the
    file's entry cannot be set; a copy of the whole folder has others, and is computed anew.
    """
    if not isinstance(source, Folder):
        return ""
    try:
        found = [path.stat() for path in source.files]
    except OSError as error:
        raise InputError(
            f"{error.filename} is no readable image ({error.strerror}); replace or remove it"
        ) from error
    return digest_json([(status.st_mtime_ns, status.st_ctime_ns) for status in found])

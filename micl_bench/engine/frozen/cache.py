"""Features of a frozen backbone, computed once and kept on disk for every evaluation that reads them.

    <folder>/<key>/          whole or not there (stored.py); the key is the digest of `_described`
    <folder>/.<key>.lock     held while the features are computed
    <folder>/.<key>.*.tmp/   arrays that are not whole yet, each run's own

Where hosts do not see each other's locks, several may compute the same features: the first that is done
gives them their name, the others read them.

Shapes: N images, D width, R readouts.
"""

import dataclasses
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from micl_bench.checkpoints import Checkpoint
from micl_bench.data.folder import Folder
from micl_bench.data.packed.store import CHECKSUMS_FILE
from micl_bench.data.pixels import Pixels
from micl_bench.data.source import Source
from micl_bench.engine.frozen import features
from micl_bench.engine.frozen.features import own_images, reading
from micl_bench.engine.frozen.stored import (
    ABOUT,
    Features,
    complete,
    open_features,
    reserve,
    write_rows,
)
from micl_bench.runs.precision import at_precision
from micl_bench.runtime.distributed import any_process, from_first, rank
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json
from micl_bench.runtime.locks import Lock
from micl_bench.runtime.log import say

_POLL_SECONDS = 0.5
_ABANDONED_SECONDS = 24 * 3600.0
# These compute the features, from the file's bytes on.
_PACKAGES = ("torch", "timm", "pillow")


def cached_features(
    checkpoint: Checkpoint,
    source: Source,
    pixels: Pixels,
    *,
    device: torch.device,
    precision: str,
    folder: Path,
    label: str,
    before: Callable[[], None] = lambda: None,
    **options: int,
) -> Features:
    """Return features of every image, from `folder` if they are there, else computed into it.

    Bit-identical for any number of processes, which share the images and must all call it and see the
    folder, and any batch size. Memory stays bounded: features are written slice by slice.

    Args:
        precision: `fp32` or `bf16`, of the backbone's products.
        label: of the progress line, and of messages.
        before: called on every process before anything is computed, where there is nothing stored.
        options: `batch_size` and `num_workers`, as `outputs_by_slice` takes them.

    Raises:
        InputError: an unreadable image, one that changed meanwhile, too little disk, or bf16 asked for
            where nothing runs in it.
    """
    described = _described(checkpoint, source, pixels, precision, device)
    # Hosts with copies of the images see other times of writing.
    place = folder / from_first(digest_json(described)[:32])

    def there() -> bool:
        return bool(from_first((place / ABOUT).is_file()))

    computed = False
    if not there():
        before()
        with _turn(folder / f".{place.name}.lock"):
            # Another run may have computed them while this one waited.
            if computed := not there():
                _compute(
                    place, described, checkpoint, source, pixels, precision, device, label, options
                )
    return open_features(place, len(source), computed=computed)


def _described(
    checkpoint: Checkpoint, source: Source, pixels: Pixels, precision: str, device: torch.device
) -> dict[str, Any]:
    """All that a feature's bits depend on, as far as it is known before they are computed.

    The weights and how they are used, the images and how they are read, the precision, the kind of
    device, the packages' versions, and of this project's own code a number, `features.VERSION`.
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
            # The checksums of a store's pixels: packed elsewhere, they may differ by a grey level.
            "packed": "" if isinstance(source, Folder) else source.header.files[CHECKSUMS_FILE],
            "written": _written(source),
        },
        "precision": precision,
        "device": device.type,
        "readouts": features.VERSION,
        "packages": {package: metadata.version(package) for package in _PACKAGES},
    }


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


def _compute(
    place: Path,
    described: dict[str, Any],
    checkpoint: Checkpoint,
    source: Source,
    pixels: Pixels,
    precision: str,
    device: torch.device,
    label: str,
    options: dict[str, int],
) -> None:
    """Compute, write under a temporary name, rename when whole."""
    began = time.monotonic()
    model = checkpoint.backbone(img_size=pixels.img_size).to(device)
    names = features.readout_names(model)
    temporary = from_first(place.with_name(f".{place.name}.{_host()}-{os.getpid()}.tmp"))
    try:
        _prepare(temporary, place, names, (len(source), model.embed_dim), label)

        def read(images: Tensor) -> Tensor:
            return features.read_out(model, checkpoint.normalise(images))

        with at_precision(precision, model, device) as watch:
            slices = features.outputs_by_slice(
                read, source, pixels, device=device, label=label, **options
            )
            # A network that does not run in bf16 is found at the first slice, not after all images.
            seen = ((first, rows_nRD, watch.seen()) for first, rows_nRD in slices)
            whole = write_rows(temporary, names, own_images(len(source)), seen)
        if any_process(not whole):
            # A row that was not written is a zero, which no reader would notice.
            raise RuntimeError(f"not each of {len(source)} rows was written once")
        if any_process(described["data"]["written"] != _written(source)):
            raise InputError(
                f"images in {source.root} changed while their features were computed; the same command "
                "computes them again"
            )
        if rank() == 0:
            norm = "the module's own" if checkpoint.features else "the backbone's final norm"
            complete(
                temporary,
                source,
                readouts=names,
                settings={"norm": norm, "precision": watch.seen(), **reading(source, pixels)},
                of=described,
                seconds=round(time.monotonic() - began, 3),
            )
            _give_name(temporary, place)
        # Nobody reads before the first has finished.
        any_process(False)
    finally:
        if rank() == 0:
            shutil.rmtree(temporary, ignore_errors=True)


def _host() -> str:
    """Return this host's name without dots, for names of files."""
    return socket.gethostname().replace(".", "_")


def _give_name(temporary: Path, place: Path) -> None:
    """Rename a whole entry, unless another host was faster: its features have the same bits."""
    try:
        temporary.rename(place)
    except OSError:
        if not (place / ABOUT).is_file():
            raise
        say("another host has computed the same features meanwhile; they are read")


def _remove_abandoned(place: Path) -> None:
    """Remove the arrays that killed runs left of the same features, and what is left of an entry.

    Those of this host are nobody's, as this run has the lock. Another host may be writing its own on a
    disk without locks, until nothing was written for a day.
    """
    if place.is_dir() and not (place / ABOUT).is_file():
        shutil.rmtree(place)
    for left in place.parent.glob(f".{place.name}.*.tmp"):
        with suppress(OSError):
            written = max((path.stat().st_mtime for path in left.iterdir()), default=0.0)
            is_own = left.name.rpartition("-")[0] == f".{place.name}.{_host()}"
            if is_own or time.time() - written > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _prepare(
    folder: Path, place: Path, names: tuple[str, ...], shape: tuple[int, int], label: str
) -> None:
    """Make the folder and reserve its arrays, on the first process; all raise what goes wrong there."""
    problem = ""
    if rank() == 0:
        _remove_abandoned(place)
        try:
            folder.mkdir(parents=True)
            reserve(folder, names, shape, label)
        except (InputError, OSError) as error:
            problem = str(error)
    if problem := from_first(problem):
        raise InputError(problem)
    if any_process(not folder.is_dir()):
        raise InputError(
            f"{folder.parent} is not seen by all hosts; set MICL_BENCH_CACHE to a shared folder"
        )


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Keep other runs from the same work meanwhile, or wait for the one that is at it.

    Every process of a run must call it; the first one holds the lock, `path`, which goes at the end; a
    kill frees it.
    """
    lock = Lock(path) if rank() == 0 else None
    said = False
    try:
        # The others hear of every try: a collective operation would give up after half an hour.
        while not from_first(lock is not None and lock.take()):
            if not said:
                say("another run computes the same features; waiting for it")
                said = True
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        if lock:
            lock.release()

"""Features of a frozen backbone, computed once and kept on disk for every evaluation that reads them.

    <folder>/<key>/      whole or not there; the key is the digest of all that is in
                         engine/feature_key.py: weights, images, preprocessing, precision, device,
                         packages' versions, and a number that stands for this project's code
        about.json       what the key stands for, what the arrays are, SHA-256 of each file
        cls_1.npy ...    a readout (engine/readouts.py) an array: (images, width) fp32
        labels.npy       (images,) int64: places in the list of classes
        files.txt        a name a line, for people
    <folder>/.<key>.lock          held while the features are computed
    <folder>/.<key>.*.tmp/        what is not whole yet

Shapes: N images, D width, R readouts.
"""

import dataclasses
import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from micl_bench.checkpoints import Checkpoint
from micl_bench.data.pixels import Pixels
from micl_bench.data.source import Source
from micl_bench.engine.frozen.feature_files import (
    RowWriter,
    remove,
    require_every_row,
    reserve,
    waited_turn,
)
from micl_bench.engine.frozen.feature_key import describe_features, images_are
from micl_bench.engine.frozen.features import outputs_by_slice, reading
from micl_bench.engine.frozen.readouts import read_out, readout_names
from micl_bench.records.provenance import environment
from micl_bench.runs.precision import at_precision
from micl_bench.runtime.distributed import any_process, collect_objects, from_first, rank
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file, digest_json, writable_cache
from micl_bench.runtime.validate import read_json

_ABOUT, _LABELS, _FILES = "about.json", "labels.npy", "files.txt"
# Of the environment that features were computed in, what records say.
_NAMED = ("torch", "timm", "processor", "gpus")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _About:
    """Content of about.json."""

    readouts: tuple[str, ...]
    settings: dict[str, Any]
    of: dict[str, Any]
    """What the key stands for."""
    sha256: dict[str, str]
    computed_with: dict[str, str]
    seconds: float


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Features of N images on disk; nothing is read before it is asked for."""

    folder: Path
    labels_N: Tensor
    """int64: places in the source's list of classes."""
    readouts: tuple[str, ...]
    settings: dict[str, Any]
    """What moves a number measured on them: `norm`, `precision` as it was seen, how images were read."""
    origin: dict[str, Any]
    """`key`; whether they were `read` as an earlier call left them; the `seconds` that computing them
    took then or now, and what they were `computed_with`."""
    digests: dict[str, str]
    """SHA-256 of each file, by name."""
    checked: set[str] = dataclasses.field(default_factory=set)
    """Files whose content was compared with it."""

    def __len__(self) -> int:
        return len(self.labels_N)

    @property
    def key(self) -> str:
        """Digest of all that the features depend on."""
        return self.folder.name

    def array(self, readout: str) -> np.memmap:
        """(N, D) fp32, mapped; what is written to it stays in memory.

        The first call reads the whole file and compares its digest.

        Raises:
            InputError: the model has no such readout, or the file is damaged.
        """
        if readout not in self.readouts:
            raise InputError(
                f"the model has no {readout}; it has {', '.join(self.readouts)}"
                + ("" if "cls_1" in self.readouts else " (no [CLS]: use pool=avg)")
            )
        path = self.folder / f"{readout}.npy"
        if path.name not in self.checked:
            _check(path, self.digests)
            self.checked.add(path.name)
        array = _load(path)
        if array.ndim != 2 or len(array) != len(self) or array.dtype != np.float32:
            raise _damaged(self.folder)
        return array

    def tensor(self, readout: str) -> Tensor:
        """The same memory as a tensor."""
        return torch.from_numpy(self.array(readout))


def default_folder() -> Path:
    """`features` below MICL_BENCH_CACHE, or below ~/.cache/micl-bench.

    Raises:
        InputError: it cannot be written.
    """
    return writable_cache("features")


def cached_features(
    checkpoint: Checkpoint,
    source: Source,
    pixels: Pixels,
    *,
    device: torch.device,
    precision: str,
    batch_size: int,
    num_workers: int,
    folder: Path,
    label: str,
    before: Callable[[], None] | None = None,
) -> Features:
    """Features of every image, from `folder` if they are there, else computed into it.

    Bit-identical for any number of processes, which share the images and must all call it and see the
    folder, and any batch size. Memory stays bounded: what is computed is written slice by slice.

    Args:
        precision: `fp32` or `bf16`, of the backbone's products.
        label: of the progress line, and of what is said.
        before: called on every process where they are not there, before anything is computed.

    Raises:
        InputError: an unreadable image, one that changed meanwhile, too little disk, or bf16 asked for
            where nothing runs in it.
    """
    described = describe_features(checkpoint, source, pixels, precision, device)
    # Hosts with copies of the images see other times of writing.
    place = folder / from_first(digest_json(described)[:32])
    computed = False
    if not from_first((place / _ABOUT).is_file()):
        if before:
            before()
        job = _Job(
            place=place, described=described, checkpoint=checkpoint, source=source, pixels=pixels
        )
        with waited_turn(folder / f".{place.name}.lock"):
            # Another run may have computed them while this one waited.
            if not from_first((place / _ABOUT).is_file()):
                if rank() == 0:
                    remove(folder.glob(f".{place.name}.*.tmp"))
                job.run(
                    device, precision, batch_size=batch_size, num_workers=num_workers, label=label
                )
                computed = True
    return _open(place, len(source), computed=computed)


def _open(place: Path, images: int, *, computed: bool) -> Features:
    try:
        about = read_json(place / _ABOUT, _About)
    except InputError as error:
        raise InputError(f"{error}; {_damaged(place)}") from error
    _check(place / _LABELS, about.sha256)
    labels = np.array(_load(place / _LABELS))
    if labels.shape != (images,) or labels.dtype != np.int64:
        raise _damaged(place)
    return Features(
        folder=place,
        labels_N=torch.from_numpy(labels),
        readouts=about.readouts,
        settings=about.settings,
        origin={
            "key": place.name,
            "read": not computed,
            "seconds": about.seconds,
            "computed_with": {
                k: about.computed_with[k] for k in _NAMED if k in about.computed_with
            },
        },
        digests=about.sha256,
    )


def _check(path: Path, digests: dict[str, str]) -> None:
    try:
        if digest_file(path) == digests[path.name]:
            return
    except (OSError, KeyError) as error:
        raise _damaged(path.parent) from error
    raise _damaged(path.parent)


def _load(path: Path) -> np.memmap:
    try:
        # Copy on write: torch takes no read-only memory, and nobody may change the file.
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path.parent) from error
    assert isinstance(array, np.memmap)
    return array


def _damaged(place: Path) -> InputError:
    return InputError(f"{place} holds damaged features; remove the folder")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
    """Features to compute, and where they go."""

    place: Path
    described: dict[str, Any]
    checkpoint: Checkpoint
    source: Source
    pixels: Pixels

    def run(
        self,
        device: torch.device,
        precision: str,
        *,
        batch_size: int,
        num_workers: int,
        label: str,
    ) -> None:
        """Compute, write under a temporary name, rename when whole."""
        began = time.monotonic()
        model = self.checkpoint.backbone(img_size=self.pixels.img_size).to(device)
        names = readout_names(model)
        temporary = from_first(self.place.with_name(f".{self.place.name}.{os.getpid()}.tmp"))
        try:
            self._prepare(temporary, names, model.embed_dim, label)
            with at_precision(precision, model, device) as watch:
                slices = outputs_by_slice(
                    lambda images: read_out(model, self.checkpoint.normalise(images)),
                    self.source,
                    self.pixels,
                    device=device,
                    batch_size=batch_size,
                    num_workers=num_workers,
                    label=label,
                )
                with RowWriter([temporary / f"{name}.npy" for name in names]) as writer:
                    for first, features_nRD in slices:
                        # Now, not after a million images.
                        watch.seen()
                        writer.write(first, features_nRD)
            if any_process(not images_are(self.described, self.source)):
                raise InputError(
                    f"images in {self.source.root} changed while their features were computed; the "
                    "same command computes them again"
                )
            # Those of all processes; every one of them has written when the first has them.
            spans = itertools.chain.from_iterable(collect_objects(writer.spans))
            if rank() == 0:
                require_every_row(spans, len(self.source))
                self._finish(temporary, names, watch.seen(), began)
            any_process(False)
        finally:
            if rank() == 0:
                remove([temporary])

    def _prepare(self, temporary: Path, names: tuple[str, ...], width: int, label: str) -> None:
        """Reserve the disk, on the first process; what goes wrong there is raised on all.

        Raises:
            InputError: too little disk, or a folder that other hosts do not see.
        """
        problem = ""
        if rank() == 0:
            try:
                temporary.mkdir(parents=True)
                reserve(temporary, names, (len(self.source), width), label)
            except (InputError, OSError) as error:
                problem = str(error)
        if problem := from_first(problem):
            raise InputError(problem)
        if any_process(not temporary.is_dir()):
            raise InputError(
                f"{self.place.parent} is not seen by all hosts; set MICL_BENCH_CACHE to a shared folder"
            )

    def _finish(
        self, temporary: Path, names: tuple[str, ...], precision: str, began: float
    ) -> None:
        np.save(temporary / _LABELS, np.asarray(self.source.labels_N), allow_pickle=False)
        listing = "".join(f"{name}\n" for name in self.source.names)
        (temporary / _FILES).write_bytes(listing.encode(errors="surrogateescape"))
        settings = {
            "norm": "the module's own" if self.checkpoint.features else "the backbone's final norm",
            "precision": precision,
            **reading(self.source, self.pixels),
        }
        about = _About(
            readouts=names,
            settings=settings,
            of=self.described,
            sha256={path.name: digest_file(path) for path in sorted(temporary.iterdir())},
            computed_with=environment(),
            seconds=round(time.monotonic() - began, 3),
        )
        text = json.dumps(dataclasses.asdict(about), indent=2)
        (temporary / _ABOUT).write_text(f"{text}\n", encoding="utf-8")
        try:
            temporary.rename(self.place)
        except OSError:
            # Where a file system knows no locks, another run may have been faster.
            if not (self.place / _ABOUT).is_file():
                raise

"""Packing: an image folder becomes a packed store (data/store.py), block by block.

A journal tells which blocks are done, so that the same command goes on after any interruption. A
block's bytes depend on its images alone, so the store's do not depend on the number of processes, on
their order, or on how often they were killed.
"""

import contextlib
import dataclasses
import errno
import fcntl
import functools
import hashlib
import json
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from micl_bench.data import store
from micl_bench.data.folder import SPLITS, Folder, open_folder, read_sized_image
from micl_bench.data.pixels import Pixels, evaluation_pixels
from micl_bench.data.store import Form, Header, Store, open_store
from micl_bench.data.verify import check_room, is_packed
from micl_bench.errors import InputError
from micl_bench.files import atomic_write, digest_json, digest_listing
from micl_bench.log import Progress, read_metrics, say
from micl_bench.record import DataSet

BAD_FILE = "bad.txt"
_DECODER = f"Pillow {PIL.__version__}"
_BLOCKS_A_PROCESS = 4
# What a row takes besides its pixels, its line in the journal included.
_ROW_EXTRA_BYTES = 64

Done = dict[int, dict[str, Any]]
"""Block to its line in the journal: block, source, sha256, sizes, bad."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packed:
    """A finished store, and how many of its images this call packed."""

    store: Store
    new_images: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Block:
    """What one process needs to pack a block."""

    block: int
    form: Form
    root: Path
    paths: tuple[Path, ...]
    out: Path

    def source(self) -> str:
        """Tells whether an image was replaced since; a broken link has no size to tell."""
        return digest_listing(self.root, (path for path in self.paths if path.exists()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
    """One folder to pack."""

    folder: Folder
    out: Path
    form: Form

    @functools.cached_property
    def names(self) -> bytes:
        """Content of names.bin."""
        names = [path.relative_to(self.folder.root).as_posix() for path in self.folder.paths]
        try:
            return "".join(f"{name}\0" for name in names).encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{self.folder.root} has file names that are no UTF-8") from error

    @functools.cached_property
    def data(self) -> DataSet:
        """The source as records name it; a broken link cannot be part of its digest."""
        there = tuple(path for path in self.folder.paths if path.exists())
        return dataclasses.replace(self.folder, paths=there).describe()

    @functools.cached_property
    def blocks(self) -> tuple[_Block, ...]:
        """All blocks, in order."""
        paths, step = self.folder.paths, self.form.block_rows
        return tuple(
            _Block(
                block=number,
                form=self.form,
                root=self.folder.root,
                paths=paths[first : first + step],
                out=self.out / store.PIXELS_FILE,
            )
            for number, first in enumerate(range(0, len(paths), step))
        )

    @property
    def begun(self) -> dict[str, Any]:
        """First line of the journal: what has to be the same for packing to go on."""
        listing = hashlib.sha256(self.names).hexdigest()
        form = dataclasses.asdict(self.form)
        return {**form, "list of images": listing, "decoder": _DECODER, "version": store.VERSION}

    def missing_bytes(self) -> int:
        """Room that is still to be taken."""
        pixels = self.out / store.PIXELS_FILE
        there = pixels.stat().st_blocks * 512 if pixels.exists() else 0
        rows, row_bytes = len(self.folder), self.form.row_bytes + _ROW_EXTRA_BYTES
        return max(0, rows * row_bytes + len(self.names) - there)


def make_form(
    layout: str, size: int, patch_size: int | None = None, crop_pct: float | None = None
) -> Form:
    """The form of the rows; the patch layout is cut with crop_pct 0.875 unless told.

    Raises:
        InputError: values that do not go together.
    """
    usual = Pixels.crop_pct if layout == "patch" else 1.0
    crop_pct = usual if crop_pct is None else float(crop_pct)
    return Form(layout=layout, size=size, patch_size=patch_size or 0, crop_pct=crop_pct)


def pack_folder(
    images: Path,
    out: Path,
    *,
    layout: str,
    size: int,
    patch_size: int | None = None,
    crop_pct: float | None = None,
    workers: int | None = None,
    skip_bad: bool = False,
) -> Packed:
    """Pack one image folder; called again after an interruption, it goes on.

    Args:
        workers: processes that decode; as many as cores and work allow unless told.
        skip_bad: leave out images that cannot be read, instead of refusing the folder.

    Raises:
        InputError: a bad folder or value, too little room, unreadable images, another packing in `out`.
    """
    form = make_form(layout, size, patch_size, crop_pct)
    job = _Job(folder=open_folder(images), out=out, form=form)
    return _pack([job], images, workers=workers, skip_bad=skip_bad)[0]


def pack_tree(
    images: Path, out: Path, form: Form, *, workers: int | None = None, skip_bad: bool = False
) -> list[Packed]:
    """Pack a folder, or each split of a data set into `out/<split>`, labels as in the first of them.

    Raises:
        InputError: as `pack_folder`.
    """
    jobs: list[_Job] = []
    for split in (name for name in SPLITS if (images / name).is_dir()):
        if not any(path.is_dir() for path in (images / split).iterdir()):
            say(f"{images / split} has no class folders and is passed over")
            continue
        classes = jobs[0].folder.classes if jobs else None
        folder = open_folder(images / split, classes=classes)
        jobs.append(_Job(folder=folder, out=out / split, form=form))
    jobs = jobs or [_Job(folder=open_folder(images), out=out, form=form)]
    return _pack(jobs, images, workers=workers, skip_bad=skip_bad)


def _pack(
    jobs: Sequence[_Job], images: Path, *, workers: int | None, skip_bad: bool
) -> list[Packed]:
    if workers is not None and workers < 1:
        raise InputError(f"{workers} workers were asked for; needed: 1 or more")
    if jobs[0].out.resolve().is_relative_to(images.resolve()):
        raise InputError(f"{jobs[0].out} lies in {images} itself; pack into another folder")
    todo = [job for job in jobs if not is_packed(job.out, job.begun, job.data.digest)]
    check_room(jobs[0].out, sum(job.missing_bytes() for job in todo))
    news, complaints = {}, []
    for job in todo:
        news[job.out], complaint = _pack_one(job, workers, skip_bad)
        complaints += [complaint] if complaint else []
    if complaints:
        raise InputError(
            f"{'; '.join(complaints)}; mend them, or leave them out with --skip-bad: either goes on "
            "from here"
        )
    return [Packed(store=open_store(job.out), new_images=news.get(job.out, 0)) for job in jobs]


def _pack_one(job: _Job, workers: int | None, skip_bad: bool) -> tuple[int, str]:
    """Pack what is missing; returns the number of images packed and what keeps it from the end."""
    job.out.mkdir(parents=True, exist_ok=True)
    with _alone(job.out):
        done = _resume(job, skip_bad)
        _allocate(job)
        todo = [block for block in job.blocks if block.block not in done]
        new = sum(len(block.paths) for block in todo)
        _pack_blocks(job, todo, done, workers)
        bad = tuple(tuple(entry) for number in sorted(done) for entry in done[number]["bad"])
        if bad and not skip_bad:
            listing = job.out / BAD_FILE
            lines = (f"{' '.join(reason.split())}\n" for _, reason in bad)
            atomic_write(listing, "".join(lines).encode())
            total = len(job.folder)
            return new, f"{len(bad)} of {total} images could not be read, listed in {listing}"
        _finish(job, done, bad)
    return new, ""


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    handle = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise InputError(f"another process is packing into {out}; wait for it") from error
    finally:
        os.close(handle)


def _resume(job: _Job, skip_bad: bool) -> Done:
    """Blocks that are done and whose images are as they were; the journal holds just them then."""
    journal = job.out / store.JOURNAL_FILE
    done: Done = {}
    for line in read_metrics(journal)[1:]:
        # Who does not leave bad images out may have mended them, without a change of size.
        if (skip_bad or not line["bad"]) and line["source"] == job.blocks[line["block"]].source():
            done[line["block"]] = line
    if done:
        say(f"{job.out}: going on, {len(done)} of {len(job.blocks)} blocks are packed")
    lines = [json.dumps(line) for line in (job.begun, *done.values())]
    atomic_write(journal, ("\n".join(lines) + "\n").encode())
    return done


def _allocate(job: _Job) -> None:
    length = len(job.folder) * job.form.row_bytes
    with (job.out / store.PIXELS_FILE).open("ab") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, length)
        except (AttributeError, OSError) as error:
            # Not every system and file system can reserve room.
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise
        file.truncate(length)


def _pack_blocks(job: _Job, todo: Sequence[_Block], done: Done, workers: int | None) -> None:
    first, images, start = len(done), 0, time.monotonic()
    label = f"pack {job.out.name}"
    with (
        Progress(label, total=len(job.blocks), done=first) as progress,
        (job.out / store.JOURNAL_FILE).open("a", encoding="utf-8") as journal,
    ):
        for line in _results(todo, workers):
            journal.write(json.dumps(line) + "\n")
            journal.flush()
            done[line["block"]] = line
            images += len(line["sizes"])
            progress.step(f"{images / (time.monotonic() - start):,.0f} images/s")


def _results(todo: Sequence[_Block], workers: int | None) -> Iterator[dict[str, Any]]:
    """Pack blocks, in processes where there is enough to do; each comes when it is done."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        # A container, or Slurm, may lend fewer than there are.
        cores = len(os.sched_getaffinity(0))
    wanted = min(cores, len(todo) // _BLOCKS_A_PROCESS) if workers is None else workers
    if min(wanted, len(todo)) < 2:
        yield from map(_pack_block, todo)
        return
    # Spawned, not forked: torch and the progress bar have threads, whose locks a fork would copy.
    pool = ProcessPoolExecutor(
        min(wanted, len(todo)), multiprocessing.get_context("spawn"), _start_process
    )
    try:
        for future in as_completed([pool.submit(_pack_block, block) for block in todo]):
            yield future.result()
    except BrokenProcessPool as error:
        raise InputError(
            "a packing process was killed, for want of memory most likely; the same command with "
            "fewer --workers goes on"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_process() -> None:
    # An interrupt is the parent's to tell of; without the parent there is nobody to work for.
    signal.signal(signal.SIGINT, lambda *_: os._exit(1))
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _pack_block(block: _Block) -> dict[str, Any]:
    """Decode a block's images into their place in pixels.bin; returns its line for the journal."""
    form, source = block.form, block.source()
    rows = np.zeros((len(block.paths), *form.row_shape), np.uint8)
    sizes, bad, first = [], [], block.block * form.block_rows
    for i, path in enumerate(block.paths):
        try:
            image, size = read_sized_image(path, at_least=_at_least(form))
            rows[i] = _row(image, form)
        except InputError as error:
            size = (0, 0)
            name = path.relative_to(block.root).as_posix()
            bad.append((first + i, str(error).replace(str(path), name)))
        sizes.append(size)
    with (block.out).open("r+b") as file:
        file.seek(first * form.row_bytes)
        file.write(rows.data)
        file.flush()
        # Before the journal says so: a machine may lose power too.
        os.fsync(file.fileno())
    digest = hashlib.sha256(rows.data).hexdigest()
    return {"block": block.block, "source": source, "sha256": digest, "sizes": sizes, "bad": bad}


def _at_least(form: Form) -> int:
    # Twice the side that an image is resized to.
    return 2 * math.ceil(form.size / form.crop_pct)


def _row(image: Image.Image, form: Form) -> NDArray[np.uint8]:
    """(L, P) or (S, S, 3)."""
    side = form.size
    if form.layout == "image":
        return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
    pixels_CHW = evaluation_pixels(image, Pixels(img_size=side, crop_pct=form.crop_pct)).numpy()
    p = form.patch_size
    parts = pixels_CHW.reshape(3, side // p, p, side // p, p)
    return parts.transpose(1, 3, 0, 2, 4).reshape(form.row_shape)


def _finish(job: _Job, done: Done, bad: tuple[tuple[int, str], ...]) -> None:
    if len(bad) == len(job.folder):
        raise InputError(f"none of the {len(bad)} images of {job.folder.root} could be read")
    lines = [done[block.block] for block in job.blocks]
    sizes = np.array([size for line in lines for size in line["sizes"]], "<i4")
    content = {
        store.LABELS_FILE: np.array(job.folder.labels, "<i8").tobytes(),
        store.SIZES_FILE: sizes.tobytes(),
        store.NAMES_FILE: job.names,
        store.CHECKSUMS_FILE: b"".join(bytes.fromhex(line["sha256"]) for line in lines),
    }
    for name, value in content.items():
        atomic_write(job.out / name, value)
    header = Header(
        form=job.form,
        classes=job.folder.classes,
        rows=len(job.folder),
        bad=bad,
        data=dataclasses.replace(job.data, images=len(job.folder) - len(bad)),
        decoder=_DECODER,
        files={name: hashlib.sha256(value).hexdigest() for name, value in content.items()},
    )
    # Through JSON once, as the reader gets it: tuples are lists there.
    whole = json.loads(json.dumps(dataclasses.asdict(header)))
    whole = {
        "format": store.FORMAT,
        "version": store.VERSION,
        **whole,
        "sha256": digest_json(whole),
    }
    # No newline at the end: every byte counts, so a file cut short is never whole.
    atomic_write(job.out / store.HEADER_FILE, json.dumps(whole, indent=1).encode())
    for name in (store.JOURNAL_FILE, BAD_FILE):
        (job.out / name).unlink(missing_ok=True)

"""Blocks of a store in the making: from image files to rows of pixels, in worker processes.

A block's bytes depend on its images alone, so the store's do not depend on the number of processes,
on their order, or on how often they were killed.

Shapes: L patches, P values per patch, S pixels of a side.
"""

import dataclasses
import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from micl_bench.data.folder import read_sized_image
from micl_bench.data.image_files import name_text
from micl_bench.data.packed.store import Form
from micl_bench.data.pixels import Pixels, enough_pixels, evaluation_pixels
from micl_bench.patches import patchify
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_listing
from micl_bench.runtime.processes import begin_helper, starting
from micl_bench.runtime.validate import Sha256

_BLOCKS_A_PROCESS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """The work of one process: a block of images, and its place."""

    block: int
    form: Form
    root: Path
    paths: tuple[Path, ...]
    out: Path
    """The file of all pixels, which has the block's place already."""

    def source(self) -> str:
        """Return a digest that changes when an image is replaced; a broken link is no part of it."""
        return digest_listing(self.root, (path for path in self.paths if path.exists()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Done:
    """A packed block, as the journal keeps it."""

    block: int
    source: str
    """`Block.source` when it was packed."""
    sha256: Sha256
    sizes: tuple[tuple[int, int], ...]
    """Width and height of each image; 0 of one that could not be read."""
    bad: tuple[tuple[int, str], ...]
    """Rows whose image could not be read, in ascending order, each with the reason."""

    def line(self) -> str:
        """Return the journal's line of it."""
        return json.dumps(dataclasses.asdict(self))


def pack_blocks(todo: Sequence[Block], workers: int | None) -> Iterator[Done]:
    """Pack blocks, in processes where there is enough to do, and yield each when it is done.

    Args:
        workers: processes; as many as cores and work allow if None.

    Raises:
        InputError: a process was killed.
    """
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        # A container, or Slurm, may lend fewer than there are.
        cores = len(os.sched_getaffinity(0))
    wanted = min(cores, len(todo) // _BLOCKS_A_PROCESS) if workers is None else workers
    if min(wanted, len(todo)) < 2:
        yield from map(_pack_block, todo)
        return
    # Spawned, not forked: torch and the progress bar have threads, whose locks a fork would copy.
    processes = min(wanted, len(todo))
    with starting(processes):
        pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), begin_helper)
    try:
        with starting(processes):
            futures = [pool.submit(_pack_block, block) for block in todo]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise InputError(
            "a packing process was killed, for want of memory most likely; the same command with "
            "fewer --workers goes on"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _pack_block(block: Block) -> Done:
    """Decode a block's images into their place."""
    form, source = block.form, block.source()
    rows = np.zeros((len(block.paths), *form.row_shape), np.uint8)
    sizes, bad, first = [], [], block.block * form.block_rows
    for i, path in enumerate(block.paths):
        try:
            image, size = read_sized_image(path, at_least=enough_pixels(form.size, form.crop_pct))
            rows[i] = _row(image, form)
        except InputError as error:
            size = (0, 0)
            name = name_text(path.relative_to(block.root).as_posix())
            bad.append((first + i, str(error).replace(str(path), name)))
        sizes.append(size)
    with block.out.open("r+b") as file:
        file.seek(first * form.row_bytes)
        file.write(rows.data)
        file.flush()
        # Before the journal says so: a machine may lose power too.
        os.fsync(file.fileno())
    return Done(
        block=block.block,
        source=source,
        sha256=hashlib.sha256(rows.data).hexdigest(),
        sizes=tuple(sizes),
        bad=tuple(bad),
    )


def _row(image: Image.Image, form: Form) -> NDArray[np.uint8]:
    """Return a row of pixels: (L, P) or (S, S, 3)."""
    side = form.size
    if form.layout == "image":
        return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
    pixels_CHW = evaluation_pixels(image, Pixels(img_size=side, crop_pct=form.crop_pct))
    return patchify(pixels_CHW[None], form.patch_size)[0].numpy()

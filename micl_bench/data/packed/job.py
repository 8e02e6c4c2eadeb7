"""One folder to pack into one store, and the folder that the store grows in.

A journal there tells which blocks are done, so that the same command goes on after any interruption:
its first line is what has to be the same for that, each other line a block. It goes when store.json,
written last, says that the store is whole.
"""

import dataclasses
import errno
import functools
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from micl_bench.data.folder import Folder
from micl_bench.data.image_files import join_lines
from micl_bench.data.packed import store
from micl_bench.data.packed.blocks import Block, Line
from micl_bench.data.packed.store import Form, Header, read_header
from micl_bench.records.result import DataSet
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_write, digest_json
from micl_bench.runtime.log import read_metrics, say
from micl_bench.runtime.wording import counted

BAD_FILE = "bad.txt"
_DECODER = f"Pillow {PIL.__version__}"
# What a row takes besides its pixels, its line in the journal included.
_ROW_EXTRA_BYTES = 64

Done = dict[int, Line]
"""Block to its line in the journal."""

Bad = tuple[tuple[int, str], ...]
"""Rows whose image could not be read, in ascending order, each with the reason."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One folder to pack."""

    folder: Folder
    out: Path
    form: Form

    @functools.cached_property
    def names(self) -> bytes:
        """Content of names.bin."""
        return "".join(f"{name}\0" for name in self.folder.names).encode()

    @functools.cached_property
    def data(self) -> DataSet:
        """The source as records name it; a broken link cannot be part of its digest."""
        there = tuple(path for path in self.folder.paths if path.exists())
        return dataclasses.replace(self.folder, paths=there).describe()

    @functools.cached_property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks, in order."""
        paths, step = self.folder.paths, self.form.block_rows
        return tuple(
            Block(
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

    @property
    def pixel_bytes(self) -> int:
        """Of the whole file of pixels."""
        return len(self.folder) * self.form.row_bytes

    @property
    def missing_bytes(self) -> int:
        """Room that is still to be taken."""
        pixels = self.out / store.PIXELS_FILE
        there = pixels.stat().st_blocks * 512 if pixels.exists() else 0
        rows, row_bytes = len(self.folder), self.form.row_bytes + _ROW_EXTRA_BYTES
        return max(0, rows * row_bytes + len(self.names) - there)


def is_packed(job: Job) -> bool:
    """Whether `job.out` is the finished store already; False where packing can begin or go on.

    Raises:
        InputError: it holds something else.
    """
    out, begun = job.out, job.begun
    if not out.exists():
        return False
    if not out.is_dir():
        raise InputError(f"{out} is a file; give a folder for the store")
    finished = (out / store.HEADER_FILE).is_file()
    wanted, found = begun, begun
    if finished:
        header = read_header(out)
        found = dataclasses.asdict(header.form) | {"list of images": header.files[store.NAMES_FILE]}
        wanted = {name: begun[name] for name in found} | {"size of an image": job.data.digest}
        found["size of an image"] = header.data.digest
    elif (out / store.JOURNAL_FILE).exists():
        journal = read_metrics(out / store.JOURNAL_FILE) or [{}]
        if not journal[0].keys() >= wanted.keys():
            raise InputError(
                f"{out / store.JOURNAL_FILE} is damaged in its first line, which says what is packed "
                f"here; remove {out} to start over"
            )
        found = journal[0]
    elif any(not path.name.startswith(".") for path in out.iterdir()):
        raise InputError(f"{out} holds other files; give a new or an empty folder for the store")
    if different := [name for name in wanted if found.get(name) != wanted[name]]:
        raise InputError(
            f"{out} was packed with another {', '.join(different)}; delete it, or pack into another "
            "folder"
        )
    if finished:
        say(
            f"{out} is packed already: {counted(header.data.images, 'image')}, "
            f"{len(header.bad):,} left out"
        )
    return finished


def check_room(place: Path, needed: int) -> None:
    """Refuse to begin what cannot end.

    Raises:
        InputError: fewer than `needed` bytes are free where `place` is or will be.
    """
    existing = next(path for path in (place, *place.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InputError(
            f"packing needs {needed / 1e9:,.3f} GB, {existing} has {free / 1e9:,.3f} GB free; make "
            "room, or pack into another folder"
        )


def resume(job: Job, skip_bad: bool) -> Done:
    """Blocks that are done and whose images are as they were; the journal holds just them then."""
    journal, pixels = job.out / store.JOURNAL_FILE, job.out / store.PIXELS_FILE
    # Where the pixels were removed since, or cut short, the journal tells of what is no longer there.
    there = pixels.is_file() and pixels.stat().st_size == job.pixel_bytes
    done: Done = {}
    for line in read_metrics(journal)[1:] if there else ():
        # Who does not leave bad images out may have mended them, without a change of size.
        if not _is_line(line, job):
            continue
        if (skip_bad or not line["bad"]) and line["source"] == job.blocks[line["block"]].source():
            done[line["block"]] = line
    if done:
        say(f"{job.out}: going on, {len(done)} of {len(job.blocks)} blocks are packed")
    lines = [json.dumps(line) for line in (job.begun, *done.values())]
    atomic_write(journal, ("\n".join(lines) + "\n").encode())
    return done


def _is_line(line: Line, job: Job) -> bool:
    """Whether a line of the journal is as it was written: of another the block is packed again."""
    block, bad, sizes = (line.get(name) for name in ("block", "bad", "sizes"))
    if type(block) is not int or not 0 <= block < len(job.blocks):
        return False
    return (
        isinstance(sizes, list)
        and len(sizes) == len(job.blocks[block].paths)
        and all(type(side) is int for size in sizes if isinstance(size, list) for side in size)
        and all(isinstance(size, list) and len(size) == 2 for size in sizes)
        and isinstance(bad, list)
        and all(isinstance(entry, list) and len(entry) == 2 for entry in bad)
        and all(type(row) is int and isinstance(reason, str) for row, reason in bad)
        and re.fullmatch(r"[0-9a-f]{64}", str(line.get("sha256"))) is not None
    )


def allocate(job: Job) -> None:
    """Take the room of all pixels at once."""
    with (job.out / store.PIXELS_FILE).open("ab") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, job.pixel_bytes)
        except (AttributeError, OSError) as error:
            # Not every system and file system can reserve room.
            if getattr(error, "errno", None) == errno.ENOSPC:
                raise
        file.truncate(job.pixel_bytes)


def finish(job: Job, done: Done, bad: Bad) -> None:
    """Write what belongs to the pixels, last of all the header.

    Raises:
        InputError: no image could be read.
    """
    if len(bad) == len(job.folder):
        raise InputError(f"no image of {job.folder.root} could be read, of {len(bad):,}")
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
        data=dataclasses.replace(
            job.data, images=len(job.folder) - len(bad), left_out=_left_out(job, bad)
        ),
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


def _left_out(job: Job, bad: Bad) -> str:
    """What lies in the folder and is not in the store, on one line."""
    number = len(bad)
    unreadable = f"{counted(number, 'image')} could not be read when packed" if bad else ""
    return join_lines([job.data.left_out, unreadable])

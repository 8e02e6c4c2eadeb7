"""Packing: an image folder becomes a packed store (`store.py`), block by block.

A journal in the growing store tells which blocks are done, so that the same command goes on after any
interruption: its first line is what has to be the same for that, each other line a block. It goes when
store.json, written last, says that the store is whole.
"""

import dataclasses
import errno
import functools
import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from micl_bench.data.folder import SPLITS, Folder, open_folder
from micl_bench.data.image_files import class_folders, join_lines
from micl_bench.data.packed import store
from micl_bench.data.packed.blocks import Block, Done, pack_blocks
from micl_bench.data.packed.store import Form, Store
from micl_bench.data.pixels import Pixels
from micl_bench.records.result import DataSet
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_write, digest_json
from micl_bench.runtime.locks import alone
from micl_bench.runtime.log import Progress, read_metrics, say
from micl_bench.runtime.validate import built
from micl_bench.runtime.values import Count, checked
from micl_bench.runtime.wording import counted

_BAD_FILE = "bad.txt"
_DECODER = f"Pillow {PIL.__version__}"
# What a row takes besides its pixels, its line in the journal included.
_ROW_EXTRA_BYTES = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packed:
    """A finished store, and how many of its images this call packed."""

    store: Store
    new_images: int


def make_form(
    layout: str, size: int, patch_size: int | None = None, crop_pct: float | None = None
) -> Form:
    """The form of the rows; the patch layout is cut with crop_pct 0.875 if none is given.

    Raises:
        InputError: values that do not go together.
    """
    usual = Pixels.crop_pct if layout == "patch" else 1.0
    crop_pct = usual if crop_pct is None else crop_pct
    values: Any = {"layout": layout, "size": size, "patch_size": patch_size or 0}
    return Form(**values, crop_pct=crop_pct)


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
    """`pack_tree` of one folder of class folders, in the form that `make_form` gives."""
    form = make_form(layout, size, patch_size, crop_pct)
    return pack_tree(images, out, form, workers=workers, skip_bad=skip_bad)[0]


def pack_tree(
    images: Path, out: Path, form: Form, *, workers: int | None = None, skip_bad: bool = False
) -> list[Packed]:
    """Pack a folder, or each split of a data set into `out/<split>`, labels as in the first of them.

    Called again after an interruption, it goes on.

    Args:
        workers: processes that decode; as many as cores and work allow if None.
        skip_bad: leave out images that cannot be read, instead of refusing the folder.

    Raises:
        InputError: a bad folder or value, too little room, unreadable images, another packing in `out`.
    """
    checked(Count | None, workers, "workers")
    jobs: list[_Job] = []
    for split in (name for name in SPLITS if (images / name).is_dir()):
        if not class_folders(images / split):
            say(f"{images / split} has no class folders and is passed over")
            continue
        classes = jobs[0].folder.classes if jobs else None
        folder = open_folder(images / split, classes=classes, but_images=True)
        jobs.append(_Job(folder=folder, out=out / split, form=form))
    jobs = jobs or [_Job(folder=open_folder(images, but_images=True), out=out, form=form)]
    if jobs[0].out.resolve().is_relative_to(images.resolve()):
        raise InputError(f"{jobs[0].out} lies in {images} itself; pack into another folder")
    todo = [job for job in jobs if not job.is_finished()]
    _check_room(jobs[0].out, sum(job.missing_bytes for job in todo))
    news, complaints = {}, []
    for job in todo:
        news[job.out], complaint = job.run(workers, skip_bad)
        complaints += [complaint] if complaint else []
    if complaints:
        raise InputError(
            f"{'; '.join(complaints)}; fix them, or leave them out with --skip-bad: either goes on "
            "from here"
        )
    return [
        Packed(store=store.open_store(job.out), new_images=news.get(job.out, 0)) for job in jobs
    ]


def _check_room(place: Path, needed: int) -> None:
    """Refuse to begin what cannot end."""
    existing = next(path for path in (place, *place.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InputError(
            f"packing needs {needed / 1e9:,.3f} GB, {existing} has {free / 1e9:,.3f} GB free; make "
            "room, or pack into another folder"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
    """One folder to pack into one store."""

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
        """Size of the whole file of pixels."""
        return len(self.folder) * self.form.row_bytes

    @property
    def missing_bytes(self) -> int:
        """Room that is still to be taken."""
        pixels = self.out / store.PIXELS_FILE
        there = pixels.stat().st_blocks * 512 if pixels.exists() else 0
        extra = len(self.folder) * _ROW_EXTRA_BYTES + len(self.names)
        return max(0, self.pixel_bytes + extra - there)

    def is_finished(self) -> bool:
        """Whether `out` is this store already; False where packing can begin or go on.

        Raises:
            InputError: it holds something else.
        """
        out, wanted = self.out, self.begun
        if not out.exists():
            return False
        if not out.is_dir():
            raise InputError(f"{out} is a file; give a folder for the store")
        journal, found = out / store.JOURNAL_FILE, wanted
        if finished := (out / store.HEADER_FILE).is_file():
            header = store.read_header(out)
            found = dataclasses.asdict(header.form)
            found["list of images"] = header.files[store.NAMES_FILE]
            wanted = {name: wanted[name] for name in found}
            found["size of an image"] = header.data.digest
            wanted["size of an image"] = self.data.digest
        elif journal.exists():
            found = next(iter(read_metrics(journal)), {})
            if not found.keys() >= wanted.keys():
                raise InputError(
                    f"{journal} is damaged in its first line, which says what is packed here; remove "
                    f"{out} to start over"
                )
        elif any(not path.name.startswith(".") for path in out.iterdir()):
            raise InputError(
                f"{out} holds other files; give a new or an empty folder for the store"
            )
        if different := [name for name in wanted if found[name] != wanted[name]]:
            raise InputError(
                f"{out} was packed with another {', '.join(different)}; delete it, or pack into another "
                "folder"
            )
        if finished:
            images, bad = counted(header.data.images, "image"), len(header.bad)
            say(f"{out} is packed already: {images}, {bad:,} left out")
        return finished

    def run(self, workers: int | None, skip_bad: bool) -> tuple[int, str]:
        """Pack what is missing; the number of images packed, and what keeps the store from its end."""
        self.out.mkdir(parents=True, exist_ok=True)
        with alone(self.out, "packing into"):
            done = self._resume(skip_bad)
            self._allocate()
            todo = [block for block in self.blocks if block.block not in done]
            self._pack(todo, done, workers)
            bad = tuple(entry for number in sorted(done) for entry in done[number].bad)
            new = sum(len(block.paths) for block in todo)
            if not bad or skip_bad:
                self._finish([done[block.block] for block in self.blocks], bad)
                return new, ""
            listing = self.out / _BAD_FILE
            lines = (f"{' '.join(reason.split())}\n" for _, reason in bad)
            atomic_write(listing, "".join(lines).encode())
            images = counted(len(self.folder), "image")
            return new, f"{len(bad):,} of {images} could not be read, listed in {listing}"

    def _resume(self, skip_bad: bool) -> dict[int, Done]:
        """Blocks that are done and whose images are as they were; the journal holds just them then."""
        journal, pixels = self.out / store.JOURNAL_FILE, self.out / store.PIXELS_FILE
        # Where the pixels were removed since, or cut short, the journal names what is gone.
        there = pixels.is_file() and pixels.stat().st_size == self.pixel_bytes
        done: dict[int, Done] = {}
        for line in read_metrics(journal)[1:] if there else ():
            try:
                one = built(Done, line)
            except InputError:
                # Damaged: that block is packed again.
                continue
            block = self.blocks[one.block] if 0 <= one.block < len(self.blocks) else None
            if block is None or len(one.sizes) != len(block.paths):
                continue
            # Who does not leave bad images out may have fixed them, without a change of size.
            if (skip_bad or not one.bad) and one.source == block.source():
                done[one.block] = one
        if done:
            say(f"{self.out}: going on, {len(done)} of {len(self.blocks)} blocks are packed")
        lines = [json.dumps(self.begun), *(one.line() for one in done.values())]
        atomic_write(journal, ("\n".join(lines) + "\n").encode())
        return done

    def _allocate(self) -> None:
        """Take the room of all pixels at once."""
        with (self.out / store.PIXELS_FILE).open("ab") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, self.pixel_bytes)
            except (AttributeError, OSError) as error:
                # Not every system and file system can reserve room.
                if getattr(error, "errno", None) == errno.ENOSPC:
                    raise
            file.truncate(self.pixel_bytes)

    def _pack(self, todo: Sequence[Block], done: dict[int, Done], workers: int | None) -> None:
        images, start = 0, time.monotonic()
        label = f"pack {self.out.name}"
        with (
            Progress(label, total=len(self.blocks), done=len(done)) as progress,
            (self.out / store.JOURNAL_FILE).open("a", encoding="utf-8") as journal,
        ):
            for one in pack_blocks(todo, workers):
                journal.write(f"{one.line()}\n")
                journal.flush()
                done[one.block] = one
                images += len(one.sizes)
                progress.step(f"{images / (time.monotonic() - start):,.0f} images/s")

    def _finish(self, blocks: Sequence[Done], bad: tuple[tuple[int, str], ...]) -> None:
        """Write what belongs to the pixels, last of all the header."""
        if len(bad) == len(self.folder):
            raise InputError(f"no image of {self.folder.root} could be read, of {len(bad):,}")
        sizes = np.array([size for one in blocks for size in one.sizes], "<i4")
        content = {
            store.LABELS_FILE: np.array(self.folder.labels, "<i8").tobytes(),
            store.SIZES_FILE: sizes.tobytes(),
            store.NAMES_FILE: self.names,
            store.CHECKSUMS_FILE: b"".join(bytes.fromhex(one.sha256) for one in blocks),
        }
        for name, value in content.items():
            atomic_write(self.out / name, value)
        unreadable = f"{counted(len(bad), 'image')} could not be read when packed" if bad else ""
        header = store.Header(
            form=self.form,
            classes=self.folder.classes,
            rows=len(self.folder),
            bad=bad,
            data=dataclasses.replace(
                self.data,
                images=len(self.folder) - len(bad),
                left_out=join_lines([self.data.left_out, unreadable]),
            ),
            decoder=_DECODER,
            files={name: hashlib.sha256(value).hexdigest() for name, value in content.items()},
        )
        # Through JSON once, as the reader gets it: tuples are lists there.
        whole = json.loads(json.dumps(dataclasses.asdict(header)))
        first = {"format": store.FORMAT, "version": store.VERSION}
        text = json.dumps({**first, **whole, "sha256": digest_json(whole)}, indent=1)
        # No newline at the end: every byte counts, so a file cut short is never whole.
        atomic_write(self.out / store.HEADER_FILE, text.encode())
        for name in (store.JOURNAL_FILE, _BAD_FILE):
            (self.out / name).unlink(missing_ok=True)

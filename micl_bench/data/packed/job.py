"""One folder packed into one store, block by block.

A journal in the growing store lists the blocks that are done, so that the same command goes on after any
interruption: its first line holds all that has to be the same for that, each other line one block. The
journal goes when store.json, written last, says that the store is whole.
"""

import dataclasses
import errno
import functools
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from micl_bench.data.folder import Folder
from micl_bench.data.image_files import join_lines
from micl_bench.data.packed import store
from micl_bench.data.packed.blocks import Block, Done, pack_blocks
from micl_bench.data.packed.store import Form
from micl_bench.records.result import DataSet
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_write, digest_json
from micl_bench.runtime.locks import alone
from micl_bench.runtime.log import Progress, read_metrics, say
from micl_bench.runtime.validate import built
from micl_bench.runtime.wording import counted

_BAD_FILE = "bad.txt"
_DECODER = f"Pillow {PIL.__version__}"
# Bytes of a row besides its pixels, its line in the journal included.
_ROW_EXTRA_BYTES = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One folder to pack into one store."""

    folder: Folder
    out: Path
    form: Form

    @functools.cached_property
    def names(self) -> bytes:
        """Return the content of names.bin."""
        return "".join(f"{name}\0" for name in self.folder.names).encode()

    @functools.cached_property
    def data(self) -> DataSet:
        """Return the source as records name it; a broken link is no part of its digest."""
        there = tuple(path for path in self.folder.paths if path.exists())
        return dataclasses.replace(self.folder, paths=there).describe()

    @functools.cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Return all blocks, in order."""
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
        """Return the journal's first line, which has to be the same for packing to go on."""
        listing = hashlib.sha256(self.names).hexdigest()
        form = dataclasses.asdict(self.form)
        return {**form, "list of images": listing, "decoder": _DECODER, "version": store.VERSION}

    @property
    def pixel_bytes(self) -> int:
        """Return the bytes of the whole file of pixels."""
        return len(self.folder) * self.form.row_bytes

    @property
    def missing_bytes(self) -> int:
        """Return the bytes that packing still takes on the disk."""
        pixels = self.out / store.PIXELS_FILE
        there = pixels.stat().st_blocks * 512 if pixels.exists() else 0
        extra = len(self.folder) * _ROW_EXTRA_BYTES + len(self.names)
        return max(0, self.pixel_bytes + extra - there)

    def is_finished(self) -> bool:
        """Return whether `out` is this store already; False where packing can begin or go on.

        Raises:
            InputError: `out` holds something else.
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
                    f"{journal} is damaged in its first line, the description of the store; remove "
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
        """Pack the missing blocks.

        Returns:
            the number of images packed, and one line on unreadable ones that keep the store from its
            end; empty for none.
        """
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
        """Return the finished blocks of unchanged images; the journal keeps just these."""
        journal, pixels = self.out / store.JOURNAL_FILE, self.out / store.PIXELS_FILE
        # Where the pixels were removed since, or cut short, the blocks in the journal are gone.
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
            # Bad images that are not left out may have been fixed, without a change of size.
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
        """Write the files beside the pixels, last of all the header."""
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

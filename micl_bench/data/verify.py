"""Checks of packed stores: of a whole one, every byte; before packing, that nothing is in the way."""

import dataclasses
import hashlib
import shutil
from pathlib import Path
from typing import Any

from micl_bench.data.folder import SPLITS
from micl_bench.data.store import (
    CHECKSUM_BYTES,
    CHECKSUMS_FILE,
    HEADER_FILE,
    JOURNAL_FILE,
    NAMES_FILE,
    PIXELS_FILE,
    SMALL_FILES,
    is_store,
    open_store,
    read_header,
)
from micl_bench.errors import InputError
from micl_bench.files import digest_file
from micl_bench.log import Progress, read_metrics, say

_SHOWN = 5


def verify_store(root: Path) -> None:
    """Read everything and compare it with its checksums.

    Raises:
        InputError: what differs: files, and blocks with the images they hold.
    """
    header = open_store(root).header
    damage = [name for name in SMALL_FILES if digest_file(root / name) != header.files[name]]
    if not damage:
        damage = _damaged_blocks(root)
    if damage:
        more = f" and {len(damage) - _SHOWN} more" if len(damage) > _SHOWN else ""
        raise InputError(
            f"{root} is damaged: {', '.join(damage[:_SHOWN])}{more} changed since packing; copy it or "
            "pack it again"
        )


def verify_tree(root: Path) -> int:
    """Verify a store, or those of all splits below a folder; returns the number of images.

    Raises:
        InputError: as `verify_store`, or none is there.
    """
    stores = [root / split for split in SPLITS if is_store(root / split)]
    if is_store(root) or not stores:
        stores = [root]
    for store in stores:
        verify_store(store)
    return sum(len(open_store(store)) for store in stores)


def _damaged_blocks(root: Path) -> list[str]:
    store = open_store(root)
    header, rows = store.header, store.header.form.block_rows
    checksums = (root / CHECKSUMS_FILE).read_bytes()
    damaged = []
    with (
        Progress("verify", total=header.blocks) as progress,
        (root / PIXELS_FILE).open("rb") as pixels,
    ):
        for block in range(header.blocks):
            expected = checksums[block * CHECKSUM_BYTES : (block + 1) * CHECKSUM_BYTES]
            content = pixels.read(rows * header.form.row_bytes)
            if hashlib.sha256(content).digest() != expected:
                last = min((block + 1) * rows, header.rows) - 1
                inside = [n for n, row in enumerate(store.rows_N) if block * rows <= row <= last]
                shown = [store.names[n] for n in (inside[:1] + inside[-1:])]
                damaged.append(f"block {block} of {PIXELS_FILE} ({' to '.join(shown)})")
            progress.step()
    return damaged


def is_packed(out: Path, begun: dict[str, Any], digest: str) -> bool:
    """Whether `out` is the finished store that is asked for; False where packing can begin or go on.

    Args:
        begun: what the journal's first line would be.
        digest: of the source folder.

    Raises:
        InputError: `out` holds something else.
    """
    if not out.exists():
        return False
    if not out.is_dir():
        raise InputError(f"{out} is a file; give a folder for the store")
    finished = (out / HEADER_FILE).is_file()
    wanted, found = begun, begun
    if finished:
        header = read_header(out)
        found = dataclasses.asdict(header.form) | {"list of images": header.files[NAMES_FILE]}
        wanted = {name: begun[name] for name in found} | {"size of an image": digest}
        found["size of an image"] = header.data.digest
    elif journal := read_metrics(out / JOURNAL_FILE):
        found = journal[0]
    elif any(not path.name.startswith(".") for path in out.iterdir()):
        raise InputError(f"{out} holds other files; give a new or an empty folder for the store")
    if different := [name for name in wanted if found.get(name) != wanted[name]]:
        raise InputError(
            f"{out} was packed with another {', '.join(different)}; delete it, or pack into another "
            "folder"
        )
    if finished:
        say(f"{out} is packed already: {header.data.images} images, {len(header.bad)} left out")
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

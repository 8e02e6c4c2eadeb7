"""Verifying packed stores: every byte against the checksums of packing."""

import hashlib
from pathlib import Path

from micl_bench.data.folder import SPLITS
from micl_bench.data.packed.store import (
    CHECKSUM_BYTES,
    CHECKSUMS_FILE,
    PIXELS_FILE,
    SMALL_FILES,
    is_store,
    open_store,
)
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file
from micl_bench.runtime.log import Progress

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

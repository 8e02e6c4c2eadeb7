"""Verification of packed stores: every byte against the checksums of packing."""

import hashlib
from pathlib import Path

import numpy as np

from micl_bench.data.folder import SPLITS
from micl_bench.data.packed.store import (
    CHECKSUM_BYTES,
    CHECKSUMS_FILE,
    PIXELS_FILE,
    SMALL_FILES,
    Store,
    is_store,
    open_store,
)
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file
from micl_bench.runtime.log import Progress

_SHOWN = 5


def verify_tree(root: Path) -> int:
    """Verify a store, or those of all splits below a folder, and return the number of images.

    Raises:
        InputError: as `verify_store`, or there is no store.
    """
    splits = [root / split for split in SPLITS if is_store(root / split)]
    return sum(map(verify_store, [root] if is_store(root) else splits or [root]))


def verify_store(root: Path) -> int:
    """Compare everything with its checksums, and return the number of images.

    Raises:
        InputError: something differs; the message lists files, and blocks with the images they hold.
    """
    store = open_store(root)
    digests = store.header.files
    damage = [name for name in SMALL_FILES if digest_file(root / name) != digests[name]]
    if damage := damage or _damaged_blocks(store):
        more = f" and {len(damage) - _SHOWN} more" if len(damage) > _SHOWN else ""
        raise InputError(
            f"{root} is damaged: {', '.join(damage[:_SHOWN])}{more} changed since packing; copy it or "
            "pack it again"
        )
    return len(store)


def _damaged_blocks(store: Store) -> list[str]:
    form, blocks = store.header.form, store.header.blocks
    checksums = (store.root / CHECKSUMS_FILE).read_bytes()
    damaged = []
    with (
        Progress("verify", total=blocks) as progress,
        (store.root / PIXELS_FILE).open("rb") as pixels,
    ):
        for block in range(blocks):
            expected = checksums[block * CHECKSUM_BYTES : (block + 1) * CHECKSUM_BYTES]
            content = pixels.read(form.block_rows * form.row_bytes)
            if hashlib.sha256(content).digest() != expected:
                inside = np.flatnonzero(store.rows_N // form.block_rows == block)
                shown = [store.names[n] for n in (*inside[:1], *inside[-1:])]
                damaged.append(f"block {block} of {PIXELS_FILE} ({' to '.join(shown)})")
            progress.step()
    return damaged

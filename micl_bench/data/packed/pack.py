"""Packing: an image folder becomes a packed store (data/store.py), block by block."""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from micl_bench.data.folder import SPLITS, open_folder
from micl_bench.data.image_files import class_folders
from micl_bench.data.packed.blocks import Block, pack_blocks
from micl_bench.data.packed.job import (
    BAD_FILE,
    Done,
    Job,
    allocate,
    check_room,
    finish,
    is_packed,
    resume,
)
from micl_bench.data.packed.store import JOURNAL_FILE, Form, Store, open_store
from micl_bench.data.pixels import Pixels
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_write
from micl_bench.runtime.locks import alone
from micl_bench.runtime.log import Progress, say
from micl_bench.runtime.values import Count, checked
from micl_bench.runtime.wording import counted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packed:
    """A finished store, and how many of its images this call packed."""

    store: Store
    new_images: int


def make_form(
    layout: str, size: int, patch_size: int | None = None, crop_pct: float | None = None
) -> Form:
    """The form of the rows; the patch layout is cut with crop_pct 0.875 unless told.

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
    """Pack one image folder; called again after an interruption, it goes on.

    Args:
        workers: processes that decode; as many as cores and work allow unless told.
        skip_bad: leave out images that cannot be read, instead of refusing the folder.

    Raises:
        InputError: a bad folder or value, too little room, unreadable images, another packing in `out`.
    """
    form = make_form(layout, size, patch_size, crop_pct)
    job = Job(folder=open_folder(images, but_images=True), out=out, form=form)
    return _pack([job], images, workers=workers, skip_bad=skip_bad)[0]


def pack_tree(
    images: Path, out: Path, form: Form, *, workers: int | None = None, skip_bad: bool = False
) -> list[Packed]:
    """Pack a folder, or each split of a data set into `out/<split>`, labels as in the first of them.

    Raises:
        InputError: as `pack_folder`.
    """
    jobs: list[Job] = []
    for split in (name for name in SPLITS if (images / name).is_dir()):
        if not class_folders(images / split):
            say(f"{images / split} has no class folders and is passed over")
            continue
        classes = jobs[0].folder.classes if jobs else None
        folder = open_folder(images / split, classes=classes, but_images=True)
        jobs.append(Job(folder=folder, out=out / split, form=form))
    jobs = jobs or [Job(folder=open_folder(images, but_images=True), out=out, form=form)]
    return _pack(jobs, images, workers=workers, skip_bad=skip_bad)


def _pack(
    jobs: Sequence[Job], images: Path, *, workers: int | None, skip_bad: bool
) -> list[Packed]:
    checked(Count | None, workers, "workers")
    if jobs[0].out.resolve().is_relative_to(images.resolve()):
        raise InputError(f"{jobs[0].out} lies in {images} itself; pack into another folder")
    todo = [job for job in jobs if not is_packed(job)]
    check_room(jobs[0].out, sum(job.missing_bytes for job in todo))
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


def _pack_one(job: Job, workers: int | None, skip_bad: bool) -> tuple[int, str]:
    """Pack what is missing; returns the number of images packed and what keeps it from the end."""
    job.out.mkdir(parents=True, exist_ok=True)
    with alone(job.out, "packing into"):
        done = resume(job, skip_bad)
        allocate(job)
        todo = [block for block in job.blocks if block.block not in done]
        new = sum(len(block.paths) for block in todo)
        _pack_missing(job, todo, done, workers)
        bad = tuple(tuple(entry) for number in sorted(done) for entry in done[number]["bad"])
        if bad and not skip_bad:
            listing = job.out / BAD_FILE
            lines = (f"{' '.join(reason.split())}\n" for _, reason in bad)
            atomic_write(listing, "".join(lines).encode())
            total = len(job.folder)
            return (
                new,
                f"{len(bad):,} of {counted(total, 'image')} could not be read, listed in {listing}",
            )
        finish(job, done, bad)
    return new, ""


def _pack_missing(job: Job, todo: Sequence[Block], done: Done, workers: int | None) -> None:
    first, images, start = len(done), 0, time.monotonic()
    label = f"pack {job.out.name}"
    with (
        Progress(label, total=len(job.blocks), done=first) as progress,
        (job.out / JOURNAL_FILE).open("a", encoding="utf-8") as journal,
    ):
        for line in pack_blocks(todo, workers):
            journal.write(json.dumps(line) + "\n")
            journal.flush()
            done[line["block"]] = line
            images += len(line["sizes"])
            progress.step(f"{images / (time.monotonic() - start):,.0f} images/s")

"""Packing: an image folder, or each split of a data set, becomes a packed store (`store.py`)."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

from micl_bench.data.folder import SPLITS, open_folder
from micl_bench.data.image_files import class_folders
from micl_bench.data.packed import store
from micl_bench.data.packed.job import Job
from micl_bench.data.packed.store import Form, Store
from micl_bench.data.pixels import Pixels
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import say
from micl_bench.runtime.values import Count, checked


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packed:
    """A finished store, and the number of its images that this call packed."""

    store: Store
    new_images: int


def make_form(
    layout: str, size: int, patch_size: int | None = None, crop_pct: float | None = None
) -> Form:
    """Return the form of the rows; the patch layout is cut with crop_pct 0.875 if none is given.

    Raises:
        InputError: the values do not go together.
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
    """Pack one folder of class folders, in the form that `make_form` gives, as `pack_tree` does."""
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
        InputError: the folder or a value is bad, there is too little room, images cannot be read, or
            `out` holds another packing.
    """
    checked(Count | None, workers, "workers")
    jobs: list[Job] = []
    for split in (name for name in SPLITS if (images / name).is_dir()):
        if not class_folders(images / split):
            say(f"{images / split} has no class folders and is passed over")
            continue
        classes = jobs[0].folder.classes if jobs else None
        folder = open_folder(images / split, classes=classes, but_images=True)
        jobs.append(Job(folder=folder, out=out / split, form=form))
    jobs = jobs or [Job(folder=open_folder(images, but_images=True), out=out, form=form)]
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
    """Raise an InputError where packing would not fit on the disk."""
    existing = next(path for path in (place, *place.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InputError(
            f"packing needs {needed / 1e9:,.3f} GB, {existing} has {free / 1e9:,.3f} GB free; make "
            "room, or pack into another folder"
        )

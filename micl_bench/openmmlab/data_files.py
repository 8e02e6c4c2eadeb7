"""The image files of a config's data sets: of COCO's against their entries, of others against masks."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from numpy.typing import NDArray

from micl_bench.data.coco_checks import check_images, image_headers
from micl_bench.data.coco_file import CocoFile
from micl_bench.data.dense_checks import VOID, add_labels, histogram, label_fault
from micl_bench.data.faults import Fault, first, reason
from micl_bench.data.headers import in_threads, spread
from micl_bench.data.image_files import list_images
from micl_bench.data.mask_checks import check_pairs, read_pairs, readable
from micl_bench.openmmlab.configs import dicts
from micl_bench.openmmlab.data_sets import Part, is_a, is_coco
from micl_bench.runtime.wording import counted

_TRAINING_MASKS = 500


def check_coco_images(
    part: Part, data: Any, file: CocoFile, on_read: Callable[[], None]
) -> Iterator[Fault]:
    """Against their entries."""
    folder = Path(data.data_prefix["img"])
    numbers = [data.get_data_info(index)["img_id"] for index in range(len(data))]
    names = list(dict.fromkeys(file.images[number] for number in numbers))
    headers = image_headers(folder, names, decode=part.evaluated, on_read=on_read)
    yield from check_images(folder, file, headers, as_stored=part.as_stored)


def check_masks(
    part: Part, data: Any, config: Config, on_read: Callable[[], None]
) -> Iterator[Fault]:
    """Images and masks against each other, and masks' numbers against the classes."""
    infos = [data.get_data_info(index) for index in range(len(data))]
    if any("seg_map_path" not in info for info in infos):
        yield Fault(
            f"{part.name} has no data_prefix.seg_map_path", "name the folder of masks there"
        )
        return
    pairs = [(Path(info["img_path"]), Path(info["seg_map_path"])) for info in infos]
    headers = read_pairs(pairs, decode=part.evaluated, on_pair=on_read)
    faults = list(check_pairs(pairs, headers, as_stored=part.as_stored))
    yield from (dataclasses.replace(fault, found=f"{part.name}: {fault.found}") for fault in faults)
    if not faults:
        yield from _check_labels(part, data, config, readable(pairs, headers))


def _check_labels(part: Part, data: Any, config: Config, masks: list[Path]) -> Iterator[Fault]:
    """The numbers in masks; of a training set's some, evenly spaced."""
    some = masks if part.evaluated else spread(masks, _TRAINING_MASKS)
    read = in_threads(_numbers, some)
    if broken := [one for one in read if isinstance(one, str)]:
        found = counted(len(broken), "mask cannot", "masks cannot")
        yield Fault(
            f"{part.name}: {found} be decoded: {first(broken)}", "copy or unpack them again"
        )
        return
    labels = add_labels(one for one in read if not isinstance(one, str))
    classes = len(data.METAINFO["classes"] if data.label_map else data.metainfo["classes"])
    fault = label_fault(
        labels,
        num_classes=classes,
        reduce_zero_label=data.reduce_zero_label,
        has_void=not is_a(part, "ADE20KDataset"),
    )
    read_masks = counted(labels.masks, "mask", "masks")
    where = f"labels of {read_masks} in {data.data_prefix['seg_map_path']}"
    if fault:
        yield Fault(
            f"{where}: {fault}",
            "give masks of the config's classes, or set metainfo.classes and reduce_zero_label",
        )
        return
    loaded = _loaded(labels.present(), data)
    if part.evaluated and not loaded - {VOID}:
        yield Fault(
            f"{where}: no pixel is of a class, so that mIoU is undefined", "label some pixels"
        )
    for place, ignored in _ignored(part, config) if VOID in loaded else ():
        if ignored != VOID:
            yield Fault(
                f"{where}: pixels of no class are {VOID} once they are loaded, {place} is {ignored}",
                f"set it to {VOID}",
            )


def _ignored(part: Part, config: Config) -> Iterator[tuple[str, int]]:
    """What is taken for no class, by those who take it."""
    key = "ignore_index"
    if part.evaluated:
        for metric in dicts(config.val_evaluator):
            if key in metric:
                yield f"val_evaluator.{key}", metric[key]
        return
    for name in ("decode_head", "auxiliary_head"):
        for head in dicts(config.model.get(name)):
            if key in head:
                yield f"model.{name}.{key}", head[key]


def not_read(part: Part, data: Any, files: dict[Path, CocoFile]) -> str:
    """A line on what lies beside a data set's images and is not read; empty where all is."""
    if is_coco(part):
        folder, file = Path(data.data_prefix["img"]), Path(data.ann_file)
        named = set(files[file].images.values())
        why = f"since {file.name} lists others only"
    else:
        folder, suffix = Path(data.data_prefix["img_path"]), data.img_suffix
        named = {name for name in list_images(folder)[0] if name.endswith(suffix)}
        why = f"since only names that end in {suffix} are"
    names, listing = list_images(folder)
    lines = []
    if others := [name for name in names if name not in named]:
        images = "image is" if len(others) == 1 else "images are"
        lines.append(f"{len(others):,} {images} not read, {why}: {first(others)}")
    if rest := str(listing.left_out):
        lines.append(rest)
    return f"in {folder} {'; '.join(lines)}" if lines else ""


def _numbers(mask: Path) -> NDArray[np.int64] | str:
    """How many pixels of a mask have each number, or why that is not known."""
    try:
        return histogram(mask)
    # What a broken file raises is the decoder's affair.
    except Exception as error:
        return f"{mask.name} ({reason(error)})"


def _loaded(present: set[int], data: Any) -> set[int]:
    """What labels become as they are loaded."""
    if data.reduce_zero_label:
        present = {VOID if label in (0, VOID) else label - 1 for label in present}
    if data.label_map:
        present = {data.label_map.get(label, label) for label in present}
    return present

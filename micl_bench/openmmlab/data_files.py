"""The image files of a config's data sets: of COCO's against their entries, of others against masks."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from micl_bench.data.coco import CocoFile
from micl_bench.data.coco_checks import check_images
from micl_bench.data.dense_files import VOID, check_pairs, label_fault, labels_in
from micl_bench.data.faults import Fault, first, reason
from micl_bench.data.headers import in_threads, spread
from micl_bench.data.image_files import list_images
from micl_bench.openmmlab.configs import dicts
from micl_bench.openmmlab.data_sets import Part
from micl_bench.runtime.wording import counted

_TRAINING_MASKS = 500


def check_coco_images(part: Part, file: CocoFile, on_read: Callable[[], None]) -> Iterator[Fault]:
    """Check the images of a data set in COCO's format against their entries."""
    data = part.data
    folder = Path(data.data_prefix["img"])
    numbers = [data.get_data_info(index)["img_id"] for index in range(len(data))]
    images = [file.images[number] for number in numbers]
    yield from check_images(
        folder, file, images, decode=part.evaluated, as_stored=part.as_stored, on_read=on_read
    )


def check_masks(part: Part, config: Config, on_read: Callable[[], None]) -> Iterator[Fault]:
    """Check images and masks against each other, and the masks' numbers against the classes."""
    infos = [part.data.get_data_info(index) for index in range(len(part.data))]
    if any("seg_map_path" not in info for info in infos):
        yield Fault(
            f"{part.name} has no data_prefix.seg_map_path", "name the folder of masks there"
        )
        return
    pairs = [(Path(info["img_path"]), Path(info["seg_map_path"])) for info in infos]
    faults = list(
        check_pairs(pairs, decode=part.evaluated, as_stored=part.as_stored, on_read=on_read)
    )
    for fault in faults:
        yield dataclasses.replace(fault, found=f"{part.name}: {fault.found}")
    if not faults:
        yield from _check_labels(part, config, [mask for _, mask in pairs])


def _check_labels(part: Part, config: Config, masks: list[Path]) -> Iterator[Fault]:
    """Check the numbers in all masks of an evaluated set, in some, evenly spaced, of a training set."""
    data = part.data
    some = masks if part.evaluated else spread(masks, _TRAINING_MASKS)
    read = in_threads(_numbers, some)
    if broken := [one for one in read if isinstance(one, str)]:
        found = counted(len(broken), "mask cannot", "masks cannot")
        yield Fault(
            f"{part.name}: {found} be decoded: {first(broken)}", "copy or unpack them again"
        )
        return
    labels = set[int]().union(*(one for one in read if isinstance(one, set)))
    classes = len(data.METAINFO["classes"] if data.label_map else data.metainfo["classes"])
    fault = label_fault(
        labels,
        num_classes=classes,
        reduce_zero_label=data.reduce_zero_label,
        has_void=not part.is_a("ADE20KDataset"),
    )
    where = f"labels of {counted(len(read), 'mask')} in {data.data_prefix['seg_map_path']}"
    if fault:
        yield Fault(
            f"{where}: {fault}",
            "give masks of the config's classes, or set metainfo.classes and reduce_zero_label",
        )
        return
    loaded = _loaded(labels, data)
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


def _numbers(mask: Path) -> set[int] | str:
    """Numbers that pixels of a mask have, or why they are not known."""
    try:
        return labels_in(mask)
    # Decoders raise errors of any kind for a broken file.
    except Exception as error:
        return f"{mask.name} ({reason(error)})"


def _loaded(present: set[int], data: Any) -> set[int]:
    """The labels that these become as they are loaded."""
    if data.reduce_zero_label:
        present = {VOID if label in (0, VOID) else label - 1 for label in present}
    if data.label_map:
        present = {data.label_map.get(label, label) for label in present}
    return present


def _ignored(part: Part, config: Config) -> Iterator[tuple[str, int]]:
    """The places of a config that name a label of no class, each with that label."""
    places = {"val_evaluator": config.val_evaluator}
    if not part.evaluated:
        names = ("decode_head", "auxiliary_head")
        places = {f"model.{name}": config.model.get(name) for name in names}
    for place, content in places.items():
        for node in dicts(content):
            if "ignore_index" in node:
                yield f"{place}.ignore_index", node["ignore_index"]


def not_read(part: Part, files: dict[Path, CocoFile]) -> str:
    """A line on the files beside a data set's images that are not read, or an empty string."""
    data = part.data
    if part.is_coco:
        folder, file = Path(data.data_prefix["img"]), Path(data.ann_file)
        listed = {image.file_name for image in files[file].images.values()}
        why = f"since {file.name} lists others only"
    else:
        folder = Path(data.data_prefix["img_path"])
        why = f"since only names that end in {data.img_suffix} are"
    names, listing = list_images(folder)
    if not part.is_coco:
        listed = {name for name in names if name.endswith(data.img_suffix)}
    others = [name for name in names if name not in listed]
    lines = []
    if others:
        images = counted(len(others), "image is", "images are")
        lines.append(f"{images} not read, {why}: {first(others)}")
    if rest := str(listing.left_out):
        lines.append(rest)
    return f"in {folder} {'; '.join(lines)}" if lines else ""

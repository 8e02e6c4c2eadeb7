"""ImageNet's classes and labels, from timm's class maps, and the classes that are right for an image.

The class folder or the name of an image stands for one or more classes of the clean set.
"""

import functools
import importlib.util
import json
import re
from collections import Counter
from pathlib import Path, PurePosixPath

from micl_bench.data.image_files import class_folders
from micl_bench.robustness._set import CleanSet, RobustnessSet
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.validate import read_json

_VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})")
# Names of the files in objectnet-1.0.
_FOLDERS = "folder_to_objectnet_label.json"
_OVERLAP = "objectnet_to_imagenet_1k.json"
_NAMES = "imagenet_to_label_2012_v2"
_ORDER = "pytorch_to_imagenet_2012_id.json"
_NEEDED = "ObjectNet's labels need the `mappings` of its release: unpack objectnet-1.0 anew"


@functools.cache
def imagenet_classes(subset: str = "") -> tuple[str, ...]:
    """Return WordNet ids in sorted order: all 1000, or the 200 of ImageNet-A (`a`) or -R (`r`)."""
    name = f"imagenet_{subset}_synsets.txt" if subset else "imagenet_synsets.txt"
    return tuple(_class_map(name).split())


@functools.cache
def real_labels() -> tuple[tuple[int, ...], ...]:
    """Return the ReaL labels of validation image 1, 2, ..., as positions among the sorted WordNet ids.

    They are empty for the 3,163 images whose raters agreed on none. Beyer et al., Are we done with
    ImageNet?, arXiv 2006.07159.
    """
    return tuple(map(tuple, json.loads(_class_map("imagenet_real_labels.json"))))


def _class_map(name: str) -> str:
    # Found, not imported: timm imports torch, which takes seconds.
    spec = importlib.util.find_spec("timm")
    assert spec
    assert spec.origin
    return (Path(spec.origin).parent / "data" / "_info" / name).read_text(encoding="utf-8")


IMAGENET_VAL = CleanSet(
    folder=PurePosixPath("imagenet/val"), classes=imagenet_classes(), per_class=50
)
"""ILSVRC 2012's validation images, sorted into folders by WordNet id."""


def right_answers(one: RobustnessSet, root: Path) -> dict[str, tuple[str, ...]]:
    """Return the classes that are right for the images of each class folder, in sorted order of folders.

    Args:
        root: the data folder.

    Raises:
        InputError: ObjectNet's mappings are missing or damaged.
    """
    if one.labels == "mappings":
        return _objectnet(root / one.folder.parent / "mappings")
    if one.labels == "folder positions":
        return {str(position): (name,) for position, name in enumerate(one.classes)}
    names = one.classes or class_folders(root / one.folder)
    return {name: (name,) for name in names}


def image_number(name: str) -> int:
    """Return the number of an ImageNet validation image, from 1; 0 where the name is not of one."""
    found = _VALIDATION_NAME.fullmatch(Path(name).stem)
    number = int(found[1]) if found else 0
    return number if number <= 50_000 else 0


def _objectnet(mappings: Path) -> dict[str, tuple[str, ...]]:
    """Return the WordNet ids of each folder, for the objects that ImageNet has too.

    The release names ImageNet's classes in words. The words' line is the class's number in ILSVRC
    2012's own order, which another file maps to the sorted order of WordNet ids.
    """
    objects = {label: folder for folder, label in _mapping(mappings / _FOLDERS).items()}
    overlap, order = _mapping(mappings / _OVERLAP), _mapping(mappings / _ORDER)
    try:
        lines = [line.strip() for line in (mappings / _NAMES).read_text("utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{mappings / _NAMES} cannot be read; {_NEEDED}") from error
    repeated = {name for name, times in Counter(lines).items() if times > 1}
    ids = imagenet_classes()
    answers: dict[str, tuple[str, ...]] = {}
    try:
        sorted_position = {int(number): int(position) for position, number in order.items()}
        number = {name: i for i, name in enumerate(lines) if name not in repeated}
        for label, words in overlap.items():
            positions = [sorted_position[number[name]] for name in words.split("; ")]
            answers[objects[label]] = tuple(ids[position] for position in positions)
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(
            f"the mappings in {mappings} do not fit together at {error}; unpack objectnet-1.0 anew"
        ) from error
    return dict(sorted(answers.items()))


def _mapping(path: Path) -> dict[str, str]:
    """Read a JSON file that maps names; numbers in it become text."""
    try:
        return {key: str(value) for key, value in read_json(path, dict[str, str | int]).items()}
    except InputError as error:
        raise InputError(f"{error}; {_NEEDED}") from error

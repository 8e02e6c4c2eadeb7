"""The parts of the embedded data set; light, so that a command line can list them at once."""

FORMAT_VERSION = 1
"""Raised whenever the same seed gives other bytes, so that an old folder is built anew."""

DATASET_NAME = "micl-bench-embedded"

PARTS: dict[str, str] = {
    "embedded": "ImageNet",
    "embedded-a": "ImageNet-A",
    "embedded-r": "ImageNet-R",
    "embedded-sketch": "ImageNet-Sketch",
    "embedded-ade20k": "ADE20K",
    "embedded-coco": "COCO 2017",
}
"""Folder name to the data set it stands for, in layout and in what it tests."""

DESCRIPTION_FILE = "dataset.json"
CLASSES: tuple[str, ...] = tuple(f"digit_{digit}" for digit in range(10))

"""Data sets, methods and architectures under one label each, whatever records and papers call them."""

import re
from collections.abc import Mapping

from micl_bench.records.result import DataSet

_Sizes = Mapping[str, tuple[int, ...]]
_PUBLIC: dict[str, tuple[tuple[str, ...], _Sizes]] = {
    "imagenet": (
        ("imagenet", "imagenet1k", "in1k", "ilsvrc", "ilsvrc2012", "imagenet2012"),
        {"val": (50_000,), "validation": (50_000,), "train": (1_281_167,)},
    ),
    # The declarations in robustness/ give these names; their classes were checked before measuring.
    "imagenet-a": (("imageneta",), {"all": (7_500,)}),
    "imagenet-r": (("imagenetr",), {"all": (30_000,)}),
    "imagenet-sketch": (("imagenetsketch",), {"all": (50_889,)}),
    "imagenet-c": (("imagenetc",), {"all": (75 * 50_000,)}),
    "imagenet-real": (("imagenetreal",), {"val": (50_000,)}),
    "imagenet-v2-matched-frequency": (("imagenetv2matchedfrequency",), {"all": (10_000,)}),
    "imagenet-v2-threshold-0.7": (("imagenetv2threshold07",), {"all": (10_000,)}),
    "imagenet-v2-top-images": (("imagenetv2topimages",), {"all": (10_000,)}),
    "objectnet": (("objectnetoverlap",), {"all": (18_574,)}),
    "ade20k": (
        ("ade20k", "adechallengedata2016"),
        {"validation": (2_000,), "training": (20_210,)},
    ),
    # 117,266 of the training images have annotations.
    "coco": (
        ("coco", "coco2017", "mscoco"),
        {"val2017": (5_000,), "train2017": (118_287, 117_266)},
    ),
}
"""Each set's names in lower case, letters and digits only, and its numbers of images by split."""
PUBLIC_SETS = tuple(_PUBLIC)
"""Every label that `family` gives to a public set."""


def family(data: DataSet) -> str:
    """Return the public set that a data set is, by name, split and number of images together.

    Anything else keeps its own name; where that is a public set's, as a subset's may be, its size is
    added. A stand-in is never the set that it stands for.
    """
    claimed = [label for label in _PUBLIC if is_called(data.name, label)]
    for label in claimed:
        _, sizes = _PUBLIC[label]
        if not data.stands_for and data.images in sizes.get(data.split, ()):
            return label
    if claimed or data.name in _PUBLIC:
        return f"{data.name} ({data.images:,} images, split {data.split})"
    return data.name


def is_called(name: str, public: str) -> bool:
    """Return whether a name is one of a public set's, whatever the images are."""
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return public in _PUBLIC and plain in _PUBLIC[public][0]


_SAME_METHODS = {
    "ocl": "MiCL",
    "dinov2 with registers": "DINOv2 + registers",
    "dinov2 (registers)": "DINOv2 + registers",
    "ibot (random masks)": "iBOT (random masking)",
}
_FINE_TUNED = re.compile(r"(, fine-tuned| \(fine-tuned\))$")


def same_method(name: str) -> str:
    """Return one label for names that mean one method: the paper's second title, OCL, is MiCL.

    A classifier has the label of the method that pre-trained it.
    """
    plain = _FINE_TUNED.sub("", name)
    return _SAME_METHODS.get(plain.lower(), plain)


_SIZES = {
    "tiny": "Ti",
    "small": "S",
    "base": "B",
    "large": "L",
    "huge": "H",
    "giant": "g",
    "gigantic": "G",
}
# The end is the input size, or a part of the model that the method's own name implies.
_TIMM_NAME = re.compile(
    r"(?:vit|deit|beit|beitv2)_(?P<size>[a-z]+)(?:_12heads)?_patch(?P<patch>\d+)"
    r"(?:_\d+|_gap|_dinov2|_reg4|_in22k|_nocls)*"
)


def arch_label(arch: str) -> str:
    """Return an architecture as papers print it: timm's `vit_base_patch16_224` is `ViT-B/16`."""
    found = _TIMM_NAME.fullmatch(arch.partition(".")[0])
    if not found or found["size"] not in _SIZES:
        return arch
    return f"ViT-{_SIZES[found['size']]}/{found['patch']}"

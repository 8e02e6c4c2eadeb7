"""ImageNet ReaL: the validation images under new labels, one or several per image."""

from micl_bench.robustness import IMAGENET_VAL, RobustnessSet

SET = RobustnessSet(
    title="ImageNet-ReaL",
    folder=IMAGENET_VAL.folder,
    clean=IMAGENET_VAL,
    description="The validation images under reassessed labels; 46,837 have one at least",
    paper="Beyer et al., Are we done with ImageNet?, arXiv 2006.07159",
    classes=IMAGENET_VAL.classes,
    images=IMAGENET_VAL.images,
    per_class=IMAGENET_VAL.per_class,
    labels="image numbers",
)

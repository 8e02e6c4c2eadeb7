"""ObjectNet's overlap with ImageNet: 18,574 photographs of 113 objects in unusual poses and places."""

from pathlib import PurePosixPath

from micl_bench.robustness import IMAGENET_VAL, RobustnessSet

SET = RobustnessSet(
    title="ObjectNet-overlap",
    folder=PurePosixPath("objectnet-1.0/images"),
    clean=IMAGENET_VAL,
    description="Household objects in random poses, views and rooms; those that ImageNet has too",
    paper="Barbu et al., ObjectNet, NeurIPS 2019",
    num_classes=113,
    images=18_574,
    labels="mappings",
    # A red frame, which the authors' loader cuts off (abarbu/objectnet-template-pytorch).
    border=2,
)

"""ImageNet-A: 7,500 photographs of 200 classes that ResNet-50 gets wrong."""

from pathlib import PurePosixPath

from micl_bench.robustness import IMAGENET_VAL, RobustnessSet, imagenet_classes

SET = RobustnessSet(
    title="ImageNet-A",
    folder=PurePosixPath("imagenet-a"),
    clean=IMAGENET_VAL,
    description="Photographs that ResNet-50 gets wrong",
    paper="Hendrycks et al., Natural Adversarial Examples, CVPR 2021, arXiv 1907.07174",
    classes=imagenet_classes("a"),
    images=7500,
    # The authors' own reading (hendrycks/natural-adv-examples, eval.py).
    reading="own classes",
)

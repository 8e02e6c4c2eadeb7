"""ImageNet-Sketch: 50,889 sketches of the 1000 classes."""

from pathlib import PurePosixPath

from micl_bench.robustness import IMAGENET_VAL, RobustnessSet, imagenet_classes

SET = RobustnessSet(
    title="ImageNet-Sketch",
    folder=PurePosixPath("sketch"),
    clean=IMAGENET_VAL,
    description="Sketches, mostly black on white, of all classes",
    paper="Wang et al., Learning Robust Global Representations by Penalizing Local Predictive "
    "Power, NeurIPS 2019, arXiv 1905.13549",
    classes=imagenet_classes(),
    images=50_889,
)

"""ImageNetV2, top images: the 10,000 new photographs that annotators chose most often."""

from pathlib import PurePosixPath

from micl_bench.robustness import IMAGENET_VAL, RobustnessSet, imagenet_classes

SET = RobustnessSet(
    title="ImageNetV2-TopImages",
    folder=PurePosixPath("imagenetv2-top-images-format-val"),
    clean=IMAGENET_VAL,
    description="A second validation set, of the images that annotators chose most often",
    paper="Recht et al., Do ImageNet Classifiers Generalize to ImageNet?, ICML 2019, arXiv 1902.10811",
    classes=imagenet_classes(),
    images=10_000,
    per_class=10,
    # Folders 0 to 999 (modestyachts/ImageNetV2, issues 4, 6 and 10: not in the order of strings).
    labels="folder positions",
)

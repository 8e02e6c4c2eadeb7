"""ImageNet-R: 30,000 renditions (art, toys, tattoos, ...) of 200 classes."""

from pathlib import PurePosixPath

from micl_bench.robustness import IMAGENET_VAL, RobustnessSet, imagenet_classes

SET = RobustnessSet(
    title="ImageNet-R",
    folder=PurePosixPath("imagenet-r"),
    clean=IMAGENET_VAL,
    description="Art, cartoons, toys, tattoos and other renditions",
    paper="Hendrycks et al., The Many Faces of Robustness, ICCV 2021, arXiv 2006.16241",
    classes=imagenet_classes("r"),
    images=30_000,
    # The authors' own reading (hendrycks/imagenet-r; huggingface/pytorch-image-models issue 176).
    reading="own classes",
)

"""ImageNet-C: the validation images under 15 corruptions of 5 severities; gives mCE."""

from pathlib import PurePosixPath

from micl_bench.robustness import IMAGENET_VAL, RobustnessSet

# Mean over the severities of AlexNet's top-1 error in percent, Hendrycks and Dietterich's own
# measurement (the sheet that hendrycks/robustness links to under "Calculating the mCE").
_ALEXNET_ERRORS = {
    "gaussian_noise": 88.6428,
    "shot_noise": 89.4468,
    "impulse_noise": 92.2640,
    "defocus_blur": 81.9880,
    "glass_blur": 82.6268,
    "motion_blur": 78.5948,
    "zoom_blur": 79.8360,
    "snow": 86.6816,
    "frost": 82.6572,
    "fog": 81.9324,
    "brightness": 56.4592,
    "contrast": 85.3204,
    "elastic_transform": 64.6056,
    "pixelate": 71.7840,
    "jpeg_compression": 60.6500,
}

SET = RobustnessSet(
    title="ImageNet-C",
    folder=PurePosixPath("imagenet-c"),
    clean=IMAGENET_VAL,
    description="Noise, blur, weather and digital corruptions of the validation images",
    paper="Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and "
    "Perturbations, ICLR 2019, arXiv 1903.12261",
    classes=IMAGENET_VAL.classes,
    images=IMAGENET_VAL.images,
    per_class=IMAGENET_VAL.per_class,
    corruptions=_ALEXNET_ERRORS,
    # 224 x 224; the authors' test.py takes them as they are.
    is_cropped=True,
)

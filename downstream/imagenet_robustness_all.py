"""All shifted sets of ImageNet for a classifier of its 1000 classes; ImageNet-C is 3,750,000 images.

    micl-bench eval robustness --checkpoint work/finetune/classifier.pt \
        --recipe imagenet_robustness_all --data DATA --out work/robustness

DATA holds `imagenet/val`, and the sets as their releases are called when unpacked: `imagenet-a`,
`imagenet-r`, `sketch`, `imagenetv2-matched-frequency-format-val`,
`imagenetv2-threshold0.7-format-val`, `imagenetv2-top-images-format-val`, `objectnet-1.0` with its
`images` and `mappings`, and `imagenet-c` with `<corruption>/<severity>` from all its archives. Where
one lies elsewhere, a symbolic link will do; where one is not at hand, name the others:
--set "sets=[imagenet_a,imagenet_real]".
"""

from micl_bench.data.pixels import Pixels
from micl_bench.tasks.robustness.run import RobustnessRecipe

recipe = RobustnessRecipe(
    sets=(
        "imagenet_a",
        "imagenet_r",
        "imagenet_sketch",
        "imagenet_v2_matched_frequency",
        "imagenet_v2_threshold07",
        "imagenet_v2_topimages",
        "imagenet_real",
        "objectnet",
        "imagenet_c",
    ),
    # Short side 256, centre 224, as MAE's evaluation.
    pixels=Pixels(img_size=224, crop_pct=0.875),
    num_workers=8,
)

"""ImageNet-A, -R and -Sketch for a classifier of ImageNet's 1000 classes: the paper's three.

    micl-bench eval robustness --checkpoint work/finetune/classifier.pt \
        --recipe imagenet_robustness --data DATA --out work/robustness

DATA holds `imagenet/val`, and the sets as their releases are called when unpacked: `imagenet-a`,
`imagenet-r`, `sketch`. Where one lies elsewhere, a symbolic link will do. All class folders go by
WordNet id.
"""

from micl_bench.data.pixels import Pixels
from micl_bench.tasks.robustness.run import RobustnessRecipe

recipe = RobustnessRecipe(
    sets=("imagenet_a", "imagenet_r", "imagenet_sketch"),
    # Short side 256, centre 224, as MAE's evaluation.
    pixels=Pixels(img_size=224, crop_pct=0.875),
    num_workers=8,
)

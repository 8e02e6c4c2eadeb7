"""Logistic regression with 10 % of ImageNet's labels, as DINOv2 fits it (Oquab et al. 2023).

    micl-bench eval logistic --checkpoint work/micl/backbone.pt \
        --recipe imagenet_logistic_10pct --data /data/imagenet \
        --set labels=10percent.txt --out work/logistic-10pct

The list is SimCLR's (Chen et al. 2020): `imagenet_subsets/10percent.txt` in google-research/simclr.
Without a list, the recipe draws 10 % of each class by its seed, and the record says that it did. The
regression is DINOv2's, who fit it on whole data sets; the pairing with a tenth of the labels is ours.

"Code" below is DINOv2's `log_regression.py`. 45 fits: use a GPU, or give fewer values of C. What
differs: the labels held out to choose C are a tenth of each class (there, a tenth of all).
"""

from micl_bench.data.pixels import Pixels
from micl_bench.tasks.logistic.run import DINOV2_GRID, LogisticRecipe

recipe = LogisticRecipe(
    pixels=Pixels(img_size=224, crop_pct=1.0),  # code: resize_size=224
    readout="cls_1",
    c=DINOV2_GRID,  # code: 10 to the power of linspace(-6, 5, 45)
    held_out=0.1,  # code: 10 % of the training set; the last fit is on all of it
    intercept=True,
    max_iter=1000,  # code
    tolerance=1e-12,  # code
    fraction=0.1,
    num_workers=8,
)

"""Logistic regression with 1 % of ImageNet's labels, as MSN fits it (Assran et al. 2022).

    micl-bench eval logistic --checkpoint work/micl/backbone.pt \
        --recipe imagenet_logistic_1pct --data /data/imagenet \
        --set labels=1percent.txt --out work/logistic-1pct

The list is SimCLR's (Chen et al. 2020): `imagenet_subsets/1percent.txt` in google-research/simclr,
12,811 file names; MSN's own lists of 1, 2 or 5 images a class are read too. Without a list, the recipe
draws 1 % of each class by its seed, and the record says that it did.

"Code" below is MSN's `logistic_eval.py`. What differs: [CLS] after the final norm (there, of the last
block before that norm, `forward_blocks(blocks=1)`: the norm scales and shifts each dimension by learned
numbers, and the penalty then weighs other directions, so MSN's own weights need not give MSN's own
numbers); bicubic resizing (there, torchvision's bilinear); and the fit runs until it no longer gets
better (there, a duality gap of 1e-3).
"""

from micl_bench.data.pixels import Pixels
from micl_bench.tasks.logistic.run import LogisticRecipe

recipe = LogisticRecipe(
    pixels=Pixels(img_size=224, crop_pct=0.875),  # code: resize to 256, centre 224
    readout="cls_1",
    # Code: lambd = 0.00025, divided by the n images, times |W|^2 / 2, beside the mean loss. The sum
    # of losses has the weight C = 1 / (n * 0.00025 / n) = 4000. (Its guide: 0.0025, C = 400, for 5
    # images a class.)
    c=(4000.0,),
    centred_rows=True,  # code: cyanure's preprocess, rows, centring, normalize
    intercept=False,  # code
    fraction=0.01,
    num_workers=8,
)

"""MiCL on the embedded digits: a ViT of 0.8 million parameters, for the demo and for first steps.

Method: arXiv:2411.09858. Mask ratio and rate are ours: a 32-pixel digit has 64 patches of 4 x 4,
and with 0.9 of them hidden, 3 patches a view would be left.

    micl-bench data embedded --out work/data
    micl-bench pretrain embedded --data work/data/embedded --out work/micl
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.micl import MiCL
from micl_bench.runs.optim import OptimConfig

recipe = PretrainRecipe(
    arch="vit_demo_patch4_32",
    objective=MiCL.Config(mask_ratio=0.5),
    # A digit's place and handedness carry meaning: no crop, no flip, only the masking.
    pixels=Pixels(img_size=32, crop_pct=1.0),
    optim=OptimConfig(base_lr=2e-3, warmup_epochs=3),
    batch_size=64,
    epochs=28,
    knn_every_epochs=4,
    save_every_steps=10,
    seed=42,
)

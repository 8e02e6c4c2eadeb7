"""DropPos on the embedded digits: a ViT of 0.8 million parameters.

Method: arXiv:2309.03576. Ours, for 64 patches of 4 x 4 pixels: a mask ratio of 0.5 (0.75 would leave 4
patches with a position), a decoder as wide as the backbone, rate and length.

    micl-bench data embedded --out work/data
    micl-bench pretrain embedded_droppos --data work/data/embedded --out work/droppos
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.droppos import DropPos
from micl_bench.runs.optim import OptimConfig

recipe = PretrainRecipe(
    arch="vit_demo_patch4_32",
    objective=DropPos.Config(mask_ratio=0.5, decoder_width=128, decoder_heads=4),
    # A digit's place and handedness carry meaning: no crop, no flip, only the masking.
    pixels=Pixels(img_size=32, crop_pct=1.0),
    optim=OptimConfig(base_lr=2e-3, warmup_epochs=3),
    batch_size=64,
    epochs=28,
    knn_every_epochs=4,
    save_every_steps=10,
    seed=42,
)

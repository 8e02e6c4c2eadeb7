"""SimCLR on the embedded digits: a ViT of 0.8 million parameters that contrasts two crops of each.

Method: arXiv:2002.05709. Jitter of half strength, no blur and temperature 0.5 are what the authors' code
has for CIFAR-10, whose images are as small. Ours: crops of half of the image or more, not mirrored,
since a digit's place and handedness carry meaning; the rate; 7 epochs, which cost as many operations as
the 28 of pretrain/embedded.py.

    micl-bench data embedded --out work/data
    micl-bench pretrain embedded_simclr --data work/data/embedded --out work/simclr
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.simclr import SimCLR
from micl_bench.runs.optim import OptimConfig

recipe = PretrainRecipe(
    arch="vit_demo_patch4_32",
    objective=SimCLR.Config(
        temperature=0.5, crop_scale=(0.5, 1.0), flip=False, strength=0.5, blur=0.0
    ),
    pixels=Pixels(img_size=32, crop_pct=1.0),
    optim=OptimConfig(base_lr=2e-3, warmup_epochs=1),
    batch_size=64,
    epochs=7,
    knn_every_epochs=1,
    save_every_steps=10,
    seed=42,
)

"""MiCL ViT-S/16 on ImageNet-1k, without crop or flip, as the paper claims: only patches are masked.

Mask ratio, rate and warm-up share are those of PRETRAIN.md in the authors' code (0.75, 1.5e-4, 40 of
800 epochs), which was written for ViT-L/16; size and length are ours. Neither the published 85.8 top-1
(ViT-L/16) nor any number for ViT-S/16 is known to come from these values.

    micl-bench pretrain pretrain/imagenet_vit_s16.py --data /data/imagenet --out work/micl_vit_s16
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.optim import OptimConfig
from micl_bench.engine.recipe import PretrainRecipe
from micl_bench.objectives.micl import MiCL

recipe = PretrainRecipe(
    arch="vit_small_patch16_224",
    objective=MiCL.Config(mask_ratio=0.75),
    pixels=Pixels(img_size=224, crop_pct=0.875),
    optim=OptimConfig(base_lr=1.5e-4, warmup_epochs=5),
    batch_size=1024,
    epochs=100,
    knn_every_epochs=10,
    knn_k=20,
    save_every_steps=500,
    seed=42,
    num_workers=8,
)

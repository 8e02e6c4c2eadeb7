"""DINO on the embedded digits: a ViT of 0.8 million parameters, in minutes.

Method: arXiv:2104.14294.

    micl-bench data embedded --out work/data
    micl-bench pretrain embedded_dino --data work/data/embedded --out work/dino
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.dino import DINO
from micl_bench.runs.optim import RisingDecay

recipe = PretrainRecipe(
    arch="vit_demo_patch4_32",
    objective=DINO.Config(
        local_crops=4,
        local_size=16,
        global_scale=(0.5, 1.0),
        local_scale=(0.15, 0.5),
        flip=False,
        strength=1.0,
        blur=(0.0, 0.0, 0.0),
        outputs=512,
        hidden_width=256,
        bottleneck_width=64,
        frozen_share=0.1,
        momentum=0.98,
        drop_path=0.0,
    ),
    pixels=Pixels(img_size=32, crop_pct=1.0),
    optim=RisingDecay(
        base_lr=2e-3,
        weight_decay=0.04,
        final_weight_decay=0.4,
        betas=(0.9, 0.999),
        warmup_epochs=1,
        clip_norm=3.0,
    ),
    batch_size=64,
    epochs=5,
    knn_every_epochs=1,
    save_every_steps=10,
    seed=42,
)

"""Training from scratch with the compute of pre-training and fine-tuning together.

A MiCL step encodes V (K + 1) tokens of an image, a supervised one L + 1. The 28 epochs of
pretrain/embedded.py are 16 steps of 64 images each, with 2 x 17 tokens an image; an epoch here is
16 steps of 64 images with 65 tokens each. 28 * (16 * 64 * 34) / (16 * 64 * 65) = 15 epochs, and the
4 of fine-tuning: 19.

    micl-bench eval finetune --checkpoint random:vit_demo_patch4_32 --method "from scratch" \
        --recipe embedded_scratch --data work/data/embedded --out work/scratch
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.supervised.augment import AugmentConfig
from micl_bench.engine.supervised.mixing import MixConfig
from micl_bench.engine.supervised.recipe import FinetuneRecipe, SupervisedConfig
from micl_bench.runs.optim import OptimConfig

recipe = FinetuneRecipe(
    pixels=Pixels(img_size=32, crop_pct=1.0, crop_scale=(0.6, 1.0)),
    training=SupervisedConfig(
        # Nothing pre-trained to keep: every layer learns at the same rate.
        optim=OptimConfig(base_lr=4e-3, betas=(0.9, 0.999), warmup_epochs=3),
        epochs=19,
        batch_size=64,
        min_lr=0.0,
    ),
    # A minute's training has nothing to regularise.
    augment=AugmentConfig(rand_augment="", erase_probability=0.0),
    mix=MixConfig(mixup=0.0, cutmix=0.0),
    drop_path=0.0,
    pool="token",
    check_every_epochs=0,
)

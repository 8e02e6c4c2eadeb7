"""Fine-tuning on the embedded digits, from pre-trained or from random weights.

    micl-bench eval finetune --checkpoint work/micl/backbone.pt \
        --recipe embedded_finetune --data work/data/embedded --out work/finetune
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.supervised.augment import AugmentConfig
from micl_bench.engine.supervised.mixing import MixConfig
from micl_bench.engine.supervised.recipe import FinetuneRecipe, SupervisedConfig
from micl_bench.runs.optim import OptimConfig

recipe = FinetuneRecipe(
    # Crops of 0.6 or more leave a digit readable; mirrored it would be another sign.
    pixels=Pixels(img_size=32, crop_pct=1.0, crop_scale=(0.6, 1.0)),
    training=SupervisedConfig(
        optim=OptimConfig(base_lr=4e-3, betas=(0.9, 0.999), warmup_epochs=1, layer_decay=0.9),
        epochs=4,
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

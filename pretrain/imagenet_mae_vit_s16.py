"""MAE ViT-S/16 on ImageNet-1k: the values of the paper and of the authors' PRETRAIN.md.

Mask ratio 0.75, decoder of 8 blocks and width 512: arXiv:2111.06377, section 4.1 and table 1. AdamW
(0.9, 0.95), weight decay 0.05, base rate 1.5e-4 at batch 4096, 40 warm-up epochs, cosine, random crops
of 0.2 to 1 of the area and flips: its table 8, and PRETRAIN.md, which has 800 epochs. The size is
ours: ViT-S/16 has no published number known here.
Deviations: [CLS] has no weight decay; crops are cut from the store's 320 pixels, not from the originals
(`--data /data/imagenet`, the folder itself, loses nothing and is slower).

    micl-bench data pack --images /data/imagenet --out /data/imagenet-320 \
        --size 320 --layout image
    micl-bench pretrain imagenet_mae_vit_s16 \
        --data /data/imagenet-320 --out work/mae_vit_s16
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.mae import MAE
from micl_bench.runs.optim import OptimConfig

recipe = PretrainRecipe(
    arch="vit_small_patch16_224",
    objective=MAE.Config(mask_ratio=0.75, decoder_depth=8, decoder_width=512),
    pixels=Pixels(img_size=224, crop_pct=0.875, crop_scale=(0.2, 1.0), flip=True),
    optim=OptimConfig(base_lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05, warmup_epochs=40),
    batch_size=4096,
    epochs=800,
    # An estimate for 80 GB, not measured: (50 tokens x 12 blocks x 384 + 197 x 8 x 512) x about 36 bytes
    # kept for the backward pass are 37 MB an image, 38 GB for 1024. One pass on 4 GPUs or more.
    micro_batch=1024,
    precision="bf16",
    compile=True,
    knn_every_epochs=10,
    knn_k=20,
    save_every_steps=500,
    seed=42,
    num_workers=8,
)

"""DropPos ViT-S/16 on ImageNet-1k: PRETRAIN.md of the authors' code.

The authors' code has this size (`DropPos_mae_vit_small_patch16_dec512d2b`) and no number for it; the
values are those of ViT-B/16.
Method: arXiv:2309.03576. From that page (github.com/Haochen-Wang409/DropPos at 9cbc5fe): ratios,
smoothing, decoder, 800 epochs, warm-up of 10, rate, decay, and a batch of 2048 (64 images on each of 32
GPUs). From main_pretrain.py beside it: the betas; from mask_transform.py: crops of 0.2 to 1, flips.
Ours: bfloat16 (fp32 there).
It crops the originals of about 500 pixels: from the store's 320, a small crop has less detail.

    micl-bench data pack --images /data/imagenet --out /data/imagenet-320 \
        --size 320 --layout image
    micl-bench pretrain imagenet_droppos_vit_s16 \
        --data /data/imagenet-320 --out work/droppos_vit_s16
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.droppos import DropPos
from micl_bench.runs.optim import OptimConfig

recipe = PretrainRecipe(
    arch="vit_small_patch16_224",
    objective=DropPos.Config(
        mask_ratio=0.75,
        position_drop_ratio=0.75,
        sigma=1.0,
        weight_temperature=0.1,
        decoder_depth=2,
        decoder_width=512,
        decoder_heads=16,
    ),
    pixels=Pixels(img_size=224, crop_pct=0.875, crop_scale=(0.2, 1.0), flip=True),
    optim=OptimConfig(base_lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05, warmup_epochs=10),
    batch_size=2048,
    epochs=800,
    precision="bf16",
    compile=True,
    knn_every_epochs=10,
    knn_k=20,
    save_every_steps=1000,
    seed=42,
    num_workers=8,
)

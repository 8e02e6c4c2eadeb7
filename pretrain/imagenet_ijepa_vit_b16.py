"""I-JEPA ViT-B/16 on ImageNet-1k, with the values of the paper.

The published linear probe after these 600 epochs has 72.9 % top-1 (table 1).
Batch (2048 in all), rate (1e-3 for it), weight decay from 0.04 to 0.4, warm-up of 15 epochs and the
predictor's sizes are those of appendix A.1 (arXiv:2301.08243; the code's one file of values for
ImageNet-1k at 224 pixels is for ViT-H/14, with 300 epochs and a warm-up of 40). Crops of 0.3 or more, no
flip, AdamW's betas, torch's own, and the decay's half cosine (evenly, says the paper) are the code's
(github.com/facebookresearch/ijepa). Contexts are cut to the smallest of 2048 images, 42 patches in the
mean; the authors' to that of a device's 128, 50 patches: see `IJepa.deviations`.

    micl-bench data pack --images /data/imagenet --out /data/imagenet-320 \
        --size 320 --layout image
    micl-bench pretrain imagenet_ijepa_vit_b16 \
        --data /data/imagenet-320 --out work/ijepa_b16
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.ijepa import IJepa
from micl_bench.runs.optim import RisingDecay

recipe = PretrainRecipe(
    arch="vit_base_patch16_224_nocls",
    objective=IJepa.Config(predictor_depth=6, predictor_width=384),
    pixels=Pixels(img_size=224, crop_pct=0.875, crop_scale=(0.3, 1.0)),
    optim=RisingDecay(
        base_lr=1.25e-4,
        weight_decay=0.04,
        final_weight_decay=0.4,
        betas=(0.9, 0.999),
        warmup_epochs=15,
    ),
    batch_size=2048,
    epochs=600,
    precision="bf16",
    compile=True,
    knn_every_epochs=10,
    knn_k=20,
    save_every_steps=1000,
    seed=42,
    num_workers=8,
)

"""MiCL ViT-S/16 on ImageNet-1k: the defaults of the authors' code, without crop or flip.

Mask ratio, epochs, warm-up, batch and base rate are that code's defaults (1800 images on each of 4
GPUs), written for ViT-L/16: this size is ours. PRETRAIN.md beside it says otherwise
(imagenet_vit_s16_doc.py). Which of the two gave the published 85.8 ImageNet top-1 (fine-tuned
ViT-L/16, 133 hours on 4 A100) is stated nowhere, and ViT-S/16 has no published number known here.
No crop and no flip is the paper's claim; its code does both (imagenet_vit_s16_code_crop.py). How an
image comes to 224 pixels is ours: the centre crop of evaluations.
Negatives come from the same GPU, as in that code, so the number of GPUs moves the result. On 4:
`torchrun --nproc-per-node 4 -m micl_bench` instead of `micl-bench`.

    micl-bench data pack --images /data/imagenet --out /data/imagenet-patch16 \
        --size 224 --layout patch --patch-size 16
    micl-bench pretrain imagenet_vit_s16_code \
        --data /data/imagenet-patch16 --out work/vit_s16_code
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.micl import MiCL
from micl_bench.runs.optim import OptimConfig

recipe = PretrainRecipe(
    arch="vit_small_patch16_224",
    objective=MiCL.Config(mask_ratio=0.9, negatives="device"),
    pixels=Pixels(img_size=224, crop_pct=0.875),
    optim=OptimConfig(base_lr=5e-5, betas=(0.9, 0.95), weight_decay=0.05, warmup_epochs=10),
    batch_size=7200,
    epochs=200,
    precision="bf16",
    compile=True,
    knn_every_epochs=10,
    knn_k=20,
    save_every_steps=500,
    seed=42,
    num_workers=8,
)

"""MoCo v3 ViT-S/16 on ImageNet-1k: the authors' command for 300 epochs, 73.2 in their linear probing.

Rate, weight decay, warm-up, temperature, frozen patch projection and cosine momentum are those of the
command in CONFIG.md of their code (github.com/facebookresearch/moco-v3; arXiv:2104.02057);
crops of 0.08 or more, batch 4096, momentum 0.99 and betas are its defaults, the colours' changes BYOL's.
Deviations: those of the objective; crops are cut from the store's 320 pixels, not from the originals
(`--data /data/imagenet`, the folder itself, loses nothing and is slower); blocks run in bfloat16, there
in float16.
This ViT-S has 6 heads, as those of all other methods here; the authors' has 12.
Micro-batches are not possible: the heads normalise over the batch. On 8 GPUs: `torchrun
--nproc-per-node 8 -m micl_bench` instead of `micl-bench`.

    micl-bench data pack --images /data/imagenet --out /data/imagenet-320 \
        --size 320 --layout image
    micl-bench pretrain imagenet_moco_v3_vit_s16 \
        --data /data/imagenet-320 --out work/moco_v3_vit_s16
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.moco_v3 import MoCoV3
from micl_bench.runs.optim import OptimConfig

recipe = PretrainRecipe(
    arch="vit_small_patch16_224",
    objective=MoCoV3.Config(),
    pixels=Pixels(img_size=224, crop_pct=0.875),
    optim=OptimConfig(base_lr=1.5e-4, betas=(0.9, 0.999), weight_decay=0.1, warmup_epochs=40),
    batch_size=4096,
    epochs=300,
    precision="bf16",
    compile=True,
    knn_every_epochs=10,
    knn_k=20,
    save_every_steps=500,
    seed=42,
    num_workers=8,
)

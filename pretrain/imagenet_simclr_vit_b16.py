"""SimCLR ViT-B/16 on ImageNet-1k: the method of its paper, trained as MoCo v3's authors train ViTs.

Crops, colours, blur, projector and temperature are SimCLR's on ImageNet (arXiv:2002.05709, and the
command in google-research/simclr). MoCo v3's paper (arXiv:2104.02057, table 4) reports SimCLR on this
ViT, with 300 epochs and the patch projection frozen at random; its rate and
decay for SimCLR were searched and are not stated, nor is its projector. So rate, decay, batch, epochs,
warm-up and betas are those that the paper and the CONFIG.md of its code have for MoCo v3 itself.
Deviations: [CLS] has no weight decay; crops are cut from the store's 320 pixels, not from the originals
(`--data /data/imagenet`, the folder itself, loses nothing and is slower).
Micro-batches are not possible: the projector normalises over the batch. On 8 GPUs: `torchrun
--nproc-per-node 8 -m micl_bench` instead of `micl-bench`.

    micl-bench data pack --images /data/imagenet --out /data/imagenet-320 \
        --size 320 --layout image
    micl-bench pretrain imagenet_simclr_vit_b16 \
        --data /data/imagenet-320 --out work/simclr_vit_b16
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.simclr import SimCLR
from micl_bench.runs.optim import OptimConfig

recipe = PretrainRecipe(
    arch="vit_base_patch16_224",
    objective=SimCLR.Config(
        temperature=0.1,
        crop_scale=(0.08, 1.0),
        flip=True,
        strength=1.0,
        grey=0.2,
        blur=0.5,
        frozen_patches=True,
    ),
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

"""DINO ViT-B/16 on ImageNet-1k: 100 epochs with the values of the authors' code (arXiv:2104.14294).

The command of the README for ViT-B/16 (github.com/facebookresearch/dino: `run_with_submitit.py --nodes 2
--ngpus 8 --arch vit_base`, 16 GPUs of 64 images); every value is the code's default. No number is known
here for this length; the published checkpoint was trained longer, with values of its own.
Deviations: those of micl_bench/objectives/dino.py; crops are cut from the store's 320 pixels, not from
the originals (`--data /data/imagenet`, the folder itself, loses nothing and is slower). On 16 GPUs:
`torchrun --nproc-per-node 8 -m micl_bench` instead of `micl-bench`, on two hosts.

    micl-bench data pack --images /data/imagenet --out /data/imagenet-320 \
        --size 320 --layout image
    micl-bench pretrain imagenet_dino_vit_b16 \
        --data /data/imagenet-320 --out work/dino_vit_b16
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.dino import DINO
from micl_bench.runs.optim import RisingDecay

recipe = PretrainRecipe(
    arch="vit_base_patch16_224",
    objective=DINO.Config(
        local_crops=8,
        local_size=96,
        global_scale=(0.4, 1.0),
        local_scale=(0.05, 0.4),
        outputs=65536,
        frozen_share=0.01,
        teacher_temperature=0.04,
        momentum=0.996,
        drop_path=0.1,
    ),
    pixels=Pixels(img_size=224, crop_pct=0.875),
    optim=RisingDecay(
        base_lr=5e-4,
        weight_decay=0.04,
        final_weight_decay=0.4,
        betas=(0.9, 0.999),
        warmup_epochs=10,
        clip_norm=3.0,
    ),
    batch_size=1024,
    epochs=100,
    precision="bf16",
    compile=True,
    knn_every_epochs=10,
    knn_k=20,
    save_every_steps=1000,
    seed=42,
    num_workers=8,
)

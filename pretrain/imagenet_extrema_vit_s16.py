"""ExtreMA ViT-S/16 on ImageNet-1k: the command of the authors' README, without colour jitter.

The values were written for ViT-B/16: this size is ours and has no published number known here.
Subsets, mask ratio, rates, batch (2048 in all), weight decay, epochs, warm-up, dropped paths, heads and
the teacher's momentum are those of that command or the code's defaults (github.com/microsoft/ExtreMA,
arXiv:2206.04667); crops of 0.2 or more and flips are its `--aug-spatial`. Blocks run in bfloat16, there
in float16.

    micl-bench data pack --images /data/imagenet --out /data/imagenet-320 \
        --size 320 --layout image
    micl-bench pretrain imagenet_extrema_vit_s16 \
        --data /data/imagenet-320 --out work/extrema_s16
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.extrema import ExtreMA
from micl_bench.runs.optim import OptimConfig

recipe = PretrainRecipe(
    arch="vit_small_patch16_224_nocls",
    objective=ExtreMA.Config(),
    pixels=Pixels(img_size=224, crop_pct=0.875, crop_scale=(0.2, 1.0), flip=True),
    optim=OptimConfig(base_lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.1, warmup_epochs=40),
    batch_size=2048,
    epochs=300,
    precision="bf16",
    compile=True,
    knn_every_epochs=10,
    knn_k=20,
    save_every_steps=1000,
    seed=42,
    num_workers=8,
)

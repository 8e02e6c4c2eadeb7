"""ExtreMA on the embedded digits: the demo's ViT without [CLS], in minutes.

Method: arXiv:2206.04667. Mask ratio, number of subsets, momentum, weight decay and size of crops are
published. The rest is ours: heads of a width that fits the network, no dropped paths, no flip, rate and
schedule. Without crops all digits lie at one place, and the targets of different images soon were one
(mean cosine above 0.999). Nor was a gain over random weights seen in a few epochs of this set: rate and
length were not searched.

    micl-bench data embedded --out work/data
    micl-bench pretrain embedded_extrema --data work/data/embedded --out work/extrema
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.extrema import ExtreMA
from micl_bench.runs.optim import OptimConfig

recipe = PretrainRecipe(
    arch="vit_demo_patch4_32_nocls",
    objective=ExtreMA.Config(drop_path=0.0, hidden_width=512, output_width=128),
    # Mirrored, a digit would be another sign.
    pixels=Pixels(img_size=32, crop_pct=1.0, crop_scale=(0.2, 1.0)),
    optim=OptimConfig(base_lr=1e-3, weight_decay=0.1, warmup_epochs=3),
    batch_size=64,
    epochs=28,
    knn_every_epochs=4,
    save_every_steps=10,
    seed=42,
)

"""ExtreMA on the embedded digits: the demo's ViT without [CLS], in minutes.

Method: arXiv:2206.04667. Mask ratio and number of subsets are published. The rest is ours: heads of a
width that fits the network, no dropped paths, a teacher that follows within the few hundred steps, rate
and schedule of the demo's kind.

    micl-bench data embedded --out work/data
    micl-bench pretrain embedded_extrema --data work/data/embedded --out work/extrema
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.extrema import ExtreMA
from micl_bench.runs.optim import OptimConfig

recipe = PretrainRecipe(
    arch="vit_demo_patch4_32_nocls",
    objective=ExtreMA.Config(momentum=0.97, drop_path=0.0, hidden_width=512, output_width=128),
    # A digit's place and handedness carry meaning: no crop, no flip, only the masking.
    pixels=Pixels(img_size=32, crop_pct=1.0),
    optim=OptimConfig(base_lr=2e-3, weight_decay=0.1, warmup_epochs=3),
    batch_size=64,
    epochs=28,
    knn_every_epochs=4,
    save_every_steps=10,
    seed=42,
)

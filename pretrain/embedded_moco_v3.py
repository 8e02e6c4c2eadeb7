"""MoCo v3 on the embedded digits: a ViT of 0.8 million parameters that finds each crop's other one.

Method: arXiv:2104.02057. Temperature, jitter and grey are published for ViTs on ImageNet. Ours: crops of
half of the image or more, not mirrored, since a digit's place and handedness carry meaning; neither blur
nor solarised crops, which leave little of 32 pixels; heads of a width that fits the network; a momentum
encoder that follows within the 80 steps; the rate; 5 epochs, which cost as many operations as the 28 of
pretrain/embedded.py. The last check gave k-NN 80.8 % (random weights: 73.9 %); rates of 2e-3 and 8e-3
gave 79.4 % and 75.0 %, and nothing else was tried.

    micl-bench data embedded --out work/data
    micl-bench pretrain embedded_moco_v3 --data work/data/embedded --out work/moco_v3
"""

from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.moco_v3 import MoCoV3
from micl_bench.runs.optim import OptimConfig

recipe = PretrainRecipe(
    arch="vit_demo_patch4_32",
    objective=MoCoV3.Config(
        momentum=0.9,
        crop_scale=(0.5, 1.0),
        flip=False,
        blur=(0.0, 0.0),
        solarise=(0.0, 0.0),
        hidden_width=512,
        width=128,
    ),
    pixels=Pixels(img_size=32, crop_pct=1.0),
    optim=OptimConfig(base_lr=4e-3, weight_decay=0.1, warmup_epochs=1),
    batch_size=64,
    epochs=5,
    knn_every_epochs=1,
    save_every_steps=10,
    seed=42,
)

"""Semantic segmentation on ADE20K with ViT-L/16: as `ade20k_upernet_vit_b16.py`, but for these values.

    micl-bench eval ade20k --recipe ade20k_upernet_vit_l16 --checkpoint FILE \
        --data ADEChallengeData2016 --out work/ade20k

Blocks, widths and drop path: BEiT's, BEiT v2's and iBOT's released configs for ViT-L agree (CAE: drop
path 0.15). Learning rate and layer decay do not: BEiT v2 (Peng et al. 2022), for weights without labels,
4e-5 and 0.9, which are taken; CAE 4e-5 and 0.95; iBOT 2e-5 and 0.95; CAE's run of MAE's weights 4e-4 and
0.65. MAE (He et al. 2022) searched the rate and does not tell it.
"""

_base_ = ["./ade20k_upernet_vit_b16.py"]

width = 1024
model = dict(
    backbone=dict(
        checkpoint="random:vit_large_patch16_224", drop_path=0.2, out_blocks=[7, 11, 15, 23]
    ),
    decode_head=dict(in_channels=[width] * 4, channels=width),
    auxiliary_head=dict(in_channels=width),
)
optim_wrapper = dict(optimizer=dict(lr=4e-5), paramwise_cfg=dict(layer_decay=0.9))

del width

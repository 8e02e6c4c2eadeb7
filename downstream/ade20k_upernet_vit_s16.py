"""Semantic segmentation on ADE20K with ViT-S/16: as `ade20k_upernet_vit_b16.py`, but for these values.

    micl-bench eval ade20k --recipe ade20k_upernet_vit_s16 --checkpoint FILE \
        --data ADEChallengeData2016 --out work/ade20k

Of the papers only iBOT (Zhou et al. 2022) has ViT-S. The learning rate is that of its command for ViT-S.
Its Appendix C gives a layer decay of 0.65 for all sizes; its released ViT-S configs that could be read
(vit_small_512_ade20k_160k_ms and _pt2ft) have 0.9, which is taken. iBOT reports maps after the final
norm: --set model.backbone.final_norm=True.
"""

_base_ = ["./ade20k_upernet_vit_b16.py"]

width = 384
model = dict(
    backbone=dict(checkpoint="random:vit_small_patch16_224"),
    decode_head=dict(in_channels=[width] * 4, channels=width),
    auxiliary_head=dict(in_channels=width),
)
optim_wrapper = dict(optimizer=dict(lr=3e-5), paramwise_cfg=dict(layer_decay=0.9))

del width

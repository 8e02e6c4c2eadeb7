"""Mask R-CNN with FPN on COCO 2017, 1x schedule: ViT-L/16, 12 epochs of 32 images, up to 800 x 1333.

    micl-bench eval coco --recipe coco_mask_rcnn_1x_vit_l16 --checkpoint FILE --data FOLDER

As ViT-B's (coco_mask_rcnn_1x_vit_b16.py), whose notes hold here too, but for what stands below, which is
CAE's released vit_large_giou_4conv1f_coco_maskrcnn_1x_cae_sincos_init0.1_lr00002_lrdr0.85_dp0.2; their
README reports 54.5 box AP and 47.5 mask AP after 1600 epochs of pre-training.
"""

_base_ = "coco_mask_rcnn_1x_vit_b16.py"

model = dict(
    backbone=dict(checkpoint="random:vit_large_patch16_224", out_blocks=[7, 11, 15, 23]),
    neck=dict(in_channels=[1024] * 4),
)
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=dict(layer_decay=0.85))

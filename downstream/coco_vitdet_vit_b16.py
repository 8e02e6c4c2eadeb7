"""ViTDet on COCO 2017: Mask R-CNN on a ViT-B/16, 100 epochs of 64 images at 1024 x 1024.

    micl-bench eval coco --recipe coco_vitdet_vit_b16 --checkpoint FILE --data FOLDER

Values: Li et al. 2022 ("Exploring Plain Vision Transformer Backbones for Object Detection") as released
in detectron2 (projects/ViTDet, mask_rcnn_vitdet_b_100ep) and, where that reads the same, in mmdetection
(projects/ViTDet, vitdet_mask-rcnn_vit-b-mae_lsj-100e). detectron2 reports 51.6 box AP and 45.9 mask AP
with MAE's ViT-B. Different here:
- No relative positions: theirs has decomposed ones in every block, learnt on COCO from zero.
- Biases are not decayed (mmdetection); detectron2 decays them.
- Images are resized by OpenCV (mmdetection), not by Pillow, which smooths where it makes them smaller.
- fp32. Theirs is fp16: `--set optim_wrapper.type=AmpOptimWrapper`. Not bf16: mmdetection makes its
  anchors in the maps' precision, which moves them by up to 4 px at 1024 px (fp16: 0.5 px).
This config was never run at full length, and the AP to expect from it is not known.

`batch_size` is that of one process. `micl-bench eval` divides 64 among its processes; under mmengine's
own runner set it to 64 / processes (theirs: 1 on each of 64). Less memory, same result:
    --set model.backbone.activation_checkpointing=True
"""

_base_ = "_base_/coco_mask_rcnn.py"

# 100 epochs of 118,000 images, as detectron2 and mmdetection count them. A tenth of the rate after
# 8/9 of them and again after 26/27.
side, steps, drops = 1024, 184_375, [163_889, 177_546]
# Over channels at each place: detectron2's heads have it after every convolution.
norm_cfg = dict(type="MiCLLayerNorm2d", eps=1e-6)

model = dict(
    # To 1024 x 1024, in training and in testing: no image is larger. With the mean colour, as
    # detectron2 does, and after `img_shape` is noted, so that no box reaches into the padding.
    data_preprocessor=dict(pad_size_divisor=side),
    backbone=dict(
        type="MiCLViT",
        checkpoint="random:vit_base_patch16_224",
        img_size=side,
        drop_path=0.1,
        # The last block's output, before the final norm and without [CLS].
        out_blocks=None,
        strides=(16,),
        final_norm=False,
        prefix_tokens=False,
        # 14 x 14 patches, but for the last block of each quarter of the depth.
        window_size=14,
        global_blocks=None,
        activation_checkpointing=False,
    ),
    neck=dict(
        type="SimpleFeaturePyramid",
        in_channels=768,
        out_channels=256,
        patch_size=16,
        strides=(4, 8, 16, 32),
        num_outs=5,
    ),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(norm_cfg=norm_cfg, loss_bbox=dict(type="L1Loss", loss_weight=1.0)),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
    # detectron2. mmdetection's True only changes which object a few boxes are matched with.
    train_cfg=dict(rcnn=dict(assigner=dict(match_low_quality=False))),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    # Large-scale jitter: fitted into a square of 0.1 to 2 times 1024, then cut out of it.
    dict(type="RandomResize", scale=(side, side), ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(
        type="RandomCrop",
        crop_size=(side, side),
        crop_type="absolute",
        # Boxes fit what is left of the masks.
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    # A crop without objects is trained on (detectron2); mmdetection draws another image.
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1e-2, 1e-2), keep_empty=False),
    dict(type="PackDetInputs"),
]
val_pipeline = [
    dict(type="LoadImageFromFile"),
    # Before the annotations are read: predictions are scaled back and compared at the images' size.
    dict(type="Resize", scale=(side, side), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
train_dataloader = dict(batch_size=64, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
    constructor="MiCLViTConstructor",
    paramwise_cfg=dict(layer_decay=0.7),
    accumulative_counts=1,
)
auto_scale_lr = dict(enable=False, base_batch_size=64)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(type="MultiStepLR", by_epoch=False, begin=0, end=steps, milestones=drops, gamma=0.1),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps, val_interval=steps)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=5_000, max_keep_ckpts=1),
)

# Used above only: `--set` refuses a name that would change nothing.
del side, steps, drops, norm_cfg, train_pipeline, val_pipeline

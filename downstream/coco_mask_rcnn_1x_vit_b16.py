"""Mask R-CNN with FPN on COCO 2017, 1x schedule: ViT-B/16, 12 epochs of 32 images, up to 800 x 1333.

    micl-bench eval coco --recipe coco_mask_rcnn_1x_vit_b16 --checkpoint FILE --data FOLDER

Values: CAE's released config (Chen et al. 2022, lxtGH/CAE, downstream_tasks/detection,
vit_base_giou_4conv1f_coco_maskrcnn_1x_cae_sincos_init0.1_lr00003), whose README reports 50.3 box AP and
44.2 mask AP after 1600 epochs of pre-training, on 16 GPUs with 2 images each. It is iBOT's detector
(bytedance/ibot, evaluation/object_detection) with one stage for iBOT's cascade of three. Where iBOT's
config differs: rate 1e-4, layer decay 0.65 (ViT-S: 0.75), 36 epochs (3x; its paper reports 1x).
Different here:
- Positions: each checkpoint's own, resampled. CAE's are fixed sines and cosines.
- A layer norm between the two transposed convolutions of the finest map; theirs is a SyncBN.
- fp32. Theirs is fp16: `--set optim_wrapper.type=AmpOptimWrapper`. Not bf16: mmdetection makes its
  anchors in the maps' precision, which moves them by pixels.
This config was never run at full length, and the AP to expect from it is not known.

Every block attends to all patches, up to 84 x 50 = 4,200 an image. `batch_size` is that of one process.
`micl-bench eval` divides 32 among its processes; under mmengine's own runner set it to 32 / processes
(theirs: 2 on each of 16). Less memory, same result (theirs does so):
    --set model.backbone.activation_checkpointing=True
"""

_base_ = "_base_/coco_mask_rcnn.py"

# 117,266 images with objects make 3,665 steps of 32 an epoch. A tenth of the rate after 9 of the 12
# epochs and again after 11 (mmdetection's own 1x: after 8 and 11).
epoch = 3_665
steps, drops = 12 * epoch, [9 * epoch, 11 * epoch]
strides = [4, 8, 16, 32]

model = dict(
    # As large as the largest image of the batch, in whole places of the coarsest map.
    data_preprocessor=dict(pad_size_divisor=32),
    backbone=dict(
        type="MiCLViT",
        checkpoint="random:vit_base_patch16_224",
        # Images differ in size: positions are resampled for each batch.
        img_size=None,
        drop_path=0.2,
        # Not every third: BEiT's, iBOT's and CAE's blocks 4, 6, 8 and 12, before the final norm.
        out_blocks=[3, 5, 7, 11],
        strides=strides,
        final_norm=False,
        activation_checkpointing=False,
    ),
    neck=dict(type="FPN", in_channels=[768] * 4, out_channels=256, num_outs=5),
    roi_head=dict(
        bbox_head=dict(
            # One process: the same as "BN". Several: statistics of all images.
            norm_cfg=dict(type="SyncBN", requires_grad=True),
            reg_decoded_bbox=True,
            loss_bbox=dict(type="GIoULoss", loss_weight=10.0),
        ),
    ),
    # mmdetection's: 1000.
    train_cfg=dict(rpn_proposal=dict(max_per_img=2000)),
)

# The short side; the long one is at most 1333.
scales = [(short, 1333) for short in range(480, 801, 32)]
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    # DETR's (Carion et al. 2020): half of the images are cut before they get their size.
    dict(
        type="RandomChoice",
        transforms=[
            [dict(type="RandomChoiceResize", scales=scales, keep_ratio=True)],
            [
                dict(
                    type="RandomChoiceResize",
                    scales=[(400, 1333), (500, 1333), (600, 1333)],
                    keep_ratio=True,
                ),
                dict(
                    type="RandomCrop",
                    crop_type="absolute_range",
                    crop_size=(384, 600),
                    allow_negative_crop=True,
                ),
                dict(type="RandomChoiceResize", scales=scales, keep_ratio=True),
            ],
        ],
    ),
    dict(type="PackDetInputs"),
]
val_pipeline = [
    dict(type="LoadImageFromFile"),
    # Before the annotations are read: predictions are scaled back and compared at the images' size.
    dict(type="Resize", scale=(1333, 800), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
train_dataloader = dict(
    batch_size=32,
    # Wide images with wide ones: less padding.
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=3e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="MiCLViTConstructor",
    paramwise_cfg=dict(layer_decay=0.75),
    accumulative_counts=1,
)
auto_scale_lr = dict(enable=False, base_batch_size=32)
param_scheduler = [
    # mmdetection's 1x schedule, which CAE's config inherits.
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=False, begin=0, end=steps, milestones=drops, gamma=0.1),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps, val_interval=steps)
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=epoch, max_keep_ckpts=1),
)

# Used above only: `--set` refuses a name that would change nothing.
del epoch, steps, drops, strides, scales, train_pipeline, val_pipeline

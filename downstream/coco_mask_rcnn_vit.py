"""Detection and instance segmentation on COCO 2017: Mask R-CNN with FPN on a plain ViT, 12 epochs.

    micl-bench eval coco --recipe downstream/coco_mask_rcnn_vit.py --checkpoint FILE --data FOLDER

FOLDER holds `train2017`, `val2017` and `annotations`. The neck fits ViT-B's width, 768; for ViT-S add
    --set "model.neck.in_channels=[384,384,384,384]"

Values: detector, image size, batch, warm-up and 1x schedule (12 epochs, a tenth of the rate after 8 and
again after 11) are mmdetection's for ResNet-50; AdamW's rate, weight decay and drop path are ViTDet's
for ViT-B, whose batch is 64. THIS IS NOT VITDET'S PROTOCOL: no windowed attention, no simple pyramid, no
lower rate for earlier blocks (there 0.7 a block), no large-scale jitter at 1024 x 1024, and 12 epochs,
not 100. Its numbers are not comparable with those of ViTDet or MAE. Nothing was searched for batch 16 or
any checkpoint, the config was never run at full length, and the AP to expect is not known.

Every block attends to all patches, up to 84 x 50 = 4,200 an image, in fp32, and the finest map has 768
channels at a quarter of the image's side: 16 images at 1333 px need much memory. How much was not
measured; a smaller batch or smaller images are another protocol.
One process takes all 16 images. The validation images are used once, after the last epoch. The newest
model is kept beside the result, but a run cannot be resumed from it.
"""

custom_imports = dict(imports=["micl_bench.openmmlab"], allow_failed_imports=False)
default_scope = "mmdet"

data_root = "data/coco"
num_classes, width, channels, scale, epochs = 80, 768, 256, (1333, 800), 12
strides = [4, 8, 16, 32]

model = dict(
    type="MaskRCNN",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type="MiCLViT",
        checkpoint="random:vit_base_patch16_224",
        # Images differ in size: positions are resampled for each batch.
        img_size=None,
        drop_path=0.1,
        strides=strides,
    ),
    neck=dict(type="FPN", in_channels=[width] * 4, out_channels=channels, num_outs=5),
    rpn_head=dict(
        type="RPNHead",
        in_channels=channels,
        feat_channels=channels,
        anchor_generator=dict(
            type="AnchorGenerator", scales=[8], ratios=[0.5, 1.0, 2.0], strides=[*strides, 64]
        ),
        bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_means=[0.0] * 4, target_stds=[1.0] * 4),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0),
    ),
    roi_head=dict(
        type="StandardRoIHead",
        bbox_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0),
            out_channels=channels,
            featmap_strides=strides,
        ),
        bbox_head=dict(
            type="Shared2FCBBoxHead",
            in_channels=channels,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=num_classes,
            bbox_coder=dict(
                type="DeltaXYWHBBoxCoder", target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2]
            ),
            reg_class_agnostic=False,
            loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        ),
        mask_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=0),
            out_channels=channels,
            featmap_strides=strides,
        ),
        mask_head=dict(
            type="FCNMaskHead",
            num_convs=4,
            in_channels=channels,
            conv_out_channels=channels,
            num_classes=num_classes,
            loss_mask=dict(type="CrossEntropyLoss", use_mask=True, loss_weight=1.0),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                min_pos_iou=0.3,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type="RandomSampler", num=256, pos_fraction=0.5, add_gt_as_proposals=False
            ),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(
            nms_pre=2000, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0
        ),
        rcnn=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type="RandomSampler", num=512, pos_fraction=0.25, add_gt_as_proposals=True
            ),
            mask_size=28,
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(
        rpn=dict(
            nms_pre=1000, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0
        ),
        rcnn=dict(
            score_thr=0.05,
            nms=dict(type="nms", iou_threshold=0.5),
            max_per_img=100,
            mask_thr_binary=0.5,
        ),
    ),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
val_pipeline = [
    dict(type="LoadImageFromFile"),
    # Before the annotations are read: predictions are scaled back and compared at the images' size.
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    # Wide images with wide ones: less padding.
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017"),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        indices=None,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file="annotations/instances_val2017.json",
        data_prefix=dict(img="val2017"),
        test_mode=True,
        indices=None,
        pipeline=val_pipeline,
    ),
)
val_evaluator = dict(
    type="CocoMetric",
    ann_file=f"{data_root}/annotations/instances_val2017.json",
    metric=["bbox", "segm"],
)

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
    # No decay of norms, biases, positions and [CLS].
    constructor="MiCLViTConstructor",
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=epochs, milestones=[8, 11], gamma=0.1),
]
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=epochs)
randomness = dict(seed=0)
val_cfg = dict(type="ValLoop")
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=True)

# Used above only: `--set` refuses a name that would change nothing.
del num_classes, width, channels, scale, epochs, strides, train_pipeline, val_pipeline

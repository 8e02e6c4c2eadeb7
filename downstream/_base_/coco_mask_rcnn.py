"""Mask R-CNN on COCO 2017: what the ViTDet and the 1x configs have in common. Not run by itself, but by

    micl-bench eval coco --recipe coco_vitdet_vit_b16 --checkpoint FILE --data FOLDER
    micl-bench eval coco --recipe coco_mask_rcnn_1x_vit_b16 --checkpoint FILE --data FOLDER

FOLDER holds `train2017`, `val2017` and `annotations`. Backbone, neck, losses, training images, optimiser
and schedule stand in those two files. Values without a comment are the same in mmdetection's and
detectron2's Mask R-CNN with FPN. The validation images are used once, after the last step.
"""

custom_imports = dict(
    imports=["micl_bench.openmmlab", "micl_bench.openmmlab.coco_metric"], allow_failed_imports=False
)
default_scope = "mmdet"

data_root = "data/coco"
num_classes, channels, strides = 80, 256, [4, 8, 16, 32]

model = dict(
    type="MaskRCNN",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
    ),
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
            # Four convolutions and a hidden layer: ViTDet's and CAE's choice, not mmdetection's.
            type="Shared4Conv1FCBBoxHead",
            in_channels=channels,
            conv_out_channels=channels,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=num_classes,
            bbox_coder=dict(
                type="DeltaXYWHBBoxCoder", target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2]
            ),
            reg_class_agnostic=False,
            loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
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

train_dataloader = dict(
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="CocoDataset",
        data_root=data_root,
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017"),
        # 117,266 of the 118,287 images: those with an object.
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        indices=None,
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
    ),
)
# With faster-coco-eval installed, `backend="faster_coco_eval"` gives the same numbers sooner.
val_evaluator = dict(
    type="MiCLCocoMetric",
    backend="pycocotools",
    ann_file=f"{data_root}/annotations/instances_val2017.json",
    metric=["bbox", "segm"],
)

val_cfg = dict(type="ValLoop")
randomness = dict(seed=0)
log_processor = dict(by_epoch=False)

# Used above only: `--set` refuses a name that would change nothing.
del num_classes, channels, strides

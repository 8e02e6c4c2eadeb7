"""Semantic segmentation on ADE20K as papers run it: UperNet on ViT-B/16, 160k steps of 16 images.

    micl-bench eval ade20k --recipe ade20k_upernet_vit_b16 --checkpoint FILE \
        --data ADEChallengeData2016 --out work/ade20k

Each value has its source beside it:
BEiT       Bao et al. 2022, Appendix I, Table 14, and their released configs for ADE20K (the one for
           weights without labels: upernet_beit_base_12_512_slide_160k_ade20k_pt)
MAE        He et al. 2022, Appendix A.4: BEiT's code, 100 epochs of ADE20K (126k steps), batch 16, the
           learning rate searched for each checkpoint; the grid and the best are not told
MAE again  implus/mae_segmentation, which gets 48.15 with MAE's weights (paper: 48.1); mmsegmentation's
           config mae-base_upernet_8xb2-amp-160k_ade20k-512x512
iBOT       Zhou et al. 2022, Appendix C, and their released configs and commands for ADE20K

What differs from all of them: fp32 (theirs: fp16), and LayerNorm, not SyncBN, between the two
transposed convolutions of the finest map. BEiT and MAE also add relative positions to the attention
while they fine-tune (iBOT does not): here positions are those of the checkpoint.

The learning rate decides much and papers search it: `downstream/suites/ade20k_learning_rates.yaml`.
Other ways to run it, each a protocol of its own:
    --set model.test_cfg.mode=whole                 the whole image at once, not windows of 512 x 512
    --set model.backbone.final_norm=True            maps after the final norm: iBOT's numbers
    --set optim_wrapper.type=Bf16OptimWrapper       trained in bfloat16
    --set "model.backbone.out_blocks=[2, 5, 8, 11]" each quarter's last block
    --recipe ade20k_upernet_vit_b16_ms                 six scales, mirrored or not
More images than memory has room for: --set optim_wrapper.accumulative_counts=2 takes half at a time.

Not run at full length here: the mIoU to expect is not known. The validation images are looked at once,
after the last step.
"""

custom_imports = dict(imports=["micl_bench.openmmlab"], allow_failed_imports=False)
default_scope = "mmseg"

data_root = "data/ADEChallengeData2016"
num_classes, width, side, steps = 150, 768, 512, 160_000

# One process: the same as "BN". Several: statistics of all their images.
norm_cfg = dict(type="SyncBN", requires_grad=True)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(side, side),
    ),
    backbone=dict(
        type="MiCLViT",
        checkpoint="random:vit_base_patch16_224",
        img_size=side,
        drop_path=0.1,  # BEiT, MAE again, iBOT (BEiT v2: 0.15)
        # The 4th, 6th, 8th and 12th block: all four. MAE's detectors take each quarter's last.
        out_blocks=[3, 5, 7, 11],
        # As blocks leave them: BEiT, MAE again. iBOT reports maps after the norm.
        final_norm=False,
    ),
    decode_head=dict(
        type="UPerHead",
        in_channels=[width] * 4,
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=width,  # all four
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=width,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", loss_weight=0.4),
    ),
    train_cfg=dict(),
    # All four; mmsegmentation's config of today has strides of 256.
    test_cfg=dict(mode="slide", crop_size=(side, side), stride=(341, 341)),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(2048, side), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(side, side), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
val_pipeline = [
    dict(type="LoadImageFromFile"),
    # Before the labels are read: predictions are scaled back and compared at the images' own size.
    dict(type="Resize", scale=(2048, side), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
# 16 in all, shared by the processes that `micl-bench eval` runs as. mmengine's own Runner takes
# `batch_size` images a process.
auto_scale_lr = dict(enable=False, base_batch_size=16)
train_dataloader = dict(
    batch_size=16,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="ADE20KDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
        # Label 0 is "other", which is neither trained nor measured.
        reduce_zero_label=True,
        indices=None,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    # Images differ in size.
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="ADE20KDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
        reduce_zero_label=True,
        indices=None,
        pipeline=val_pipeline,
    ),
)
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])

optim_wrapper = dict(
    type="OptimWrapper",
    # The rate: MAE again. iBOT's command for ViT-B has 8e-5, BEiT's config 7e-4, its Table 14 1e-3.
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    # No decay of norms, biases, positions and [CLS].
    constructor="MiCLViTConstructor",
    # All four; each block from the last to the first has 0.65 times the rate of the one above it.
    paramwise_cfg=dict(layer_decay=0.65),
    accumulative_counts=1,
)
# All four: 1500 steps of warm-up, then straight down to nothing.
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=steps),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=steps, val_interval=steps)
randomness = dict(seed=0)
val_cfg = dict(type="ValLoop")
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=16_000, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=False)

# Used above only: `--set` refuses a name that would change nothing.
del num_classes, width, side, steps, norm_cfg, train_pipeline, val_pipeline

"""ADE20K with ViT-S/16, predicted at six scales, each also mirrored: else `ade20k_upernet_vit_s16.py`.

    micl-bench eval ade20k --recipe ade20k_upernet_vit_s16_ms --checkpoint FILE \
        --data ADEChallengeData2016 --out work/ade20k-ms

Scales and the mean of probabilities: BEiT's and iBOT's released configs for 512 x 512 that end in `_ms`.
mmsegmentation's own `tta_pipeline` takes them of each image's own size: another protocol. Training is
the same; measuring takes about 30 times the windows (images of 683 x 512).
"""

_base_ = ["./ade20k_upernet_vit_s16.py"]

custom_imports = dict(
    imports=["micl_bench.openmmlab", "micl_bench.openmmlab.multi_scale"], allow_failed_imports=False
)
model = dict(type="MultiScaleEncoderDecoder")
val_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            # 0.5, 0.75, 1, 1.25, 1.5 and 1.75 times 512, none below the window's 512.
            dict(type="MultiScaleFlip", short_sides=[512, 512, 512, 640, 768, 896]),
        ]
    )
)

"""Tiny random files of libraries: Hugging Face's transformers, OpenMMLab, lightly and solo-learn."""

import logging
from pathlib import Path
from typing import Any

import torch
from layouts_parts import (
    DEPTH,
    HEADS,
    PATCH,
    SIZE,
    WIDTH,
    State,
    Writer,
    numbers,
    plain_vit,
    prefixed,
    saved,
    training_state,
)
from timm.models import VisionTransformer
from torch import nn

HF_SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "intermediate_size": 4 * WIDTH,
    "image_size": SIZE,
    "patch_size": PATCH,
}
"""Heads of 32 channels, which only the configuration states."""


def hf_model(name: str, **options: Any) -> Any:
    """A model of transformers with numbers in every tensor."""
    import transformers

    logging.getLogger("transformers").setLevel(logging.ERROR)
    model_class = getattr(transformers, name)
    model = model_class(model_class.config_class(**{**HF_SIZES, **options})).eval()
    for place, (key, value) in enumerate(sorted(model.state_dict().items())):
        value.copy_(numbers(*value.shape, seed=place) + ("norm" in key and "weight" in key))
    return model


HF_OPTIONS: dict[str, dict[str, Any]] = {
    "ViTForImageClassification": {"id2label": {0: "tench", 1: "goldfish", 2: "shark"}},
    "ViTMAEForPreTraining": {
        "decoder_hidden_size": 32,
        "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 32,
        "mask_ratio": 0.0,
    },
}


def _huggingface(name: str) -> Writer:
    def write(folder: Path) -> Path:
        path = folder / name
        hf_model(name, **HF_OPTIONS.get(name, {})).save_pretrained(path)
        return path

    return write


def mmpretrain_names(state: State) -> State:
    """mmpretrain's names of timm's."""
    renamed = {}
    for old, value in state.items():
        name = old.replace("blocks.", "layers.").replace(
            "patch_embed.proj.", "patch_embed.projection."
        )
        name = name.replace("mlp.fc1", "ffn.layers.0.0").replace("mlp.fc2", "ffn.layers.1")
        name = name.replace("ls1.gamma", "attn.gamma1.weight").replace(
            "ls2.gamma", "ffn.gamma2.weight"
        )
        name = name.replace("fc_norm.", "ln2.").replace("norm1", "ln1").replace("norm2", "ln2")
        name = "ln1." + name.removeprefix("norm.") if name.startswith("norm.") else name
        renamed[f"backbone.{name}"] = value
    return renamed


_MM_CONFIG = """
model = dict(
    backbone=dict(arch='base', type='VisionTransformer'),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[
            127.5,
            127.5,
            127.5,
        ],
        size=(512, 512),
        std=[
            127.5,
            127.5,
            127.5,
        ]),
    type='ImageClassifier')
"""


def _openmmlab(folder: Path) -> Path:
    """mmpretrain's classifier, its configuration as text beside it."""
    state = mmpretrain_names(plain_vit(seed=1))
    state |= {"head.layers.head.weight": numbers(3, WIDTH, seed=5)}
    state |= {"head.layers.head.bias": numbers(3, seed=6)}
    meta = {"cfg": _MM_CONFIG, "dataset_meta": {"classes": ["tench", "goldfish", "shark"]}}
    return saved(folder, "vit-base-p16.pth", {"meta": meta, "state_dict": state})


def _openmmlab_avg(folder: Path) -> Path:
    """mmpretrain's fine-tuned MAE: the norm is behind the pooling."""
    vit = plain_vit(seed=1)
    vit |= {f"fc_norm.{part}": vit.pop(f"norm.{part}") for part in ("weight", "bias")}
    state = mmpretrain_names(vit) | {"head.fc.weight": numbers(3, WIDTH, seed=5)}
    state |= {"head.fc.bias": numbers(3, seed=6)}
    return saved(folder, "mae-finetuned.pth", {"meta": {}, "state_dict": state})


def _openmmlab_timm(folder: Path) -> Path:
    state = prefixed("backbone.", plain_vit(seed=1))
    state |= {"decode_head.conv_seg.weight": numbers(3, 8, 1, 1, seed=5)}
    return saved(folder, "segmentor.pth", {"meta": {}, "state_dict": state})


class LightlyModule(nn.Module):
    """The module of lightly's own benchmark of DINO: a teacher, its student and their heads."""

    def __init__(self) -> None:
        super().__init__()
        from lightly.models.modules import DINOProjectionHead, MaskedVisionTransformerTIMM

        for place, prefix in enumerate(("", "student_")):
            vit = VisionTransformer(
                img_size=SIZE,
                patch_size=PATCH,
                embed_dim=WIDTH,
                depth=DEPTH,
                num_heads=HEADS,
                num_classes=10,
                dynamic_img_size=True,
            )
            backbone = MaskedVisionTransformerTIMM(vit=vit)
            for key, value in vit.state_dict().items():
                seed = 100 * place + len(key) + int(value.sum().item() * 10) % 7
                value.copy_(numbers(*value.shape, seed=seed) + ("norm" in key and "weight" in key))
            setattr(self, f"{prefix}backbone", backbone)
            head = DINOProjectionHead(
                input_dim=WIDTH, hidden_dim=16, bottleneck_dim=8, output_dim=8
            )
            setattr(self, f"{prefix}projection_head", head)
        self.online_classifier = nn.Linear(WIDTH, 3)


def _lightly(folder: Path) -> Path:
    torch.manual_seed(0)
    content = {
        "epoch": 1,
        "global_step": 10,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": LightlyModule().state_dict(),
        "optimizer_states": [training_state()["optimizer"]],
        "hyper_parameters": {"num_classes": 3},
    }
    return saved(folder, "epoch=1-step=10.ckpt", content)


def _lightly_alone(folder: Path) -> Path:
    torch.manual_seed(0)
    backbone: nn.Module = LightlyModule().get_submodule("backbone")
    return saved(folder, "backbone.pth", backbone.state_dict())


def solo_learn(folder: Path, method: str | None = "simclr", **beside: Any) -> Path:
    state = prefixed("backbone.", plain_vit(seed=1))
    state |= prefixed("momentum_backbone.", plain_vit(seed=2))
    state |= {"classifier.weight": torch.zeros(3, WIDTH), "classifier.bias": torch.zeros(3)}
    state |= {
        f"{part}.0.weight": torch.zeros(8, WIDTH) for part in ("projector", "momentum_projector")
    }
    state |= {"queue": torch.zeros(2, 8, 4)}
    options = {"method": method, "backbone": {"name": "vit_small"}} if method else {}
    content = {"state_dict": state, "pytorch-lightning_version": "2.0", "epoch": 3, "callbacks": {}}
    content |= {"hyper_parameters": options, "optimizer_states": [], **beside}
    return saved(folder, "simclr-ep=399.ckpt", content)


LIBRARIES: dict[str, Writer] = {
    "huggingface-vit": _huggingface("ViTModel"),
    "huggingface-vit_classifier": _huggingface("ViTForImageClassification"),
    "huggingface-vit_mae": _huggingface("ViTMAEForPreTraining"),
    "huggingface-vit_msn": _huggingface("ViTMSNModel"),
    "huggingface-ijepa": _huggingface("IJepaModel"),
    "huggingface-dinov2": _huggingface("Dinov2Model"),
    "huggingface-dinov2_registers": _huggingface("Dinov2WithRegistersModel"),
    "huggingface-dinov2_classifier": _huggingface("Dinov2ForImageClassification"),
    "openmmlab": _openmmlab,
    "openmmlab-avg": _openmmlab_avg,
    "openmmlab-timm": _openmmlab_timm,
    "lightly": _lightly,
    "lightly-alone": _lightly_alone,
    "solo_learn": solo_learn,
}

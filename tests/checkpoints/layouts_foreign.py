"""Tiny random files in the layouts of other code bases, as those save them.

`FOREIGN[name](folder)` writes one and returns its path; `name` begins with the format that must
recognise it.
"""

import functools
from argparse import Namespace
from collections import OrderedDict
from pathlib import Path
from typing import Any

import timm
import torch
from direct import moco_positions
from layouts_libraries import LIBRARIES
from layouts_parts import (
    DEPTH,
    GRID,
    PATCH,
    WIDTH,
    State,
    Writer,
    beit_vit,
    numbers,
    plain_vit,
    prefixed,
    saved,
    training_state,
)
from torch import Tensor


def _head(width: int = WIDTH, *, patches: bool = False) -> State:
    """Return the head of DINO and iBOT: three layers, then one under weight normalisation."""
    head = {
        "head.mlp.0.weight": numbers(32, width, seed=1),
        "head.mlp.0.bias": numbers(32, seed=2),
        "head.last_layer.weight_g": torch.ones(16, 1),
        "head.last_layer.weight_v": numbers(16, 32, seed=3),
    }
    if patches:
        head |= {"head.last_layer2.weight_g": torch.ones(16, 1)}
        head |= {"head.last_layer2.weight_v": numbers(16, 32, seed=4)}
    return head


def _dino(folder: Path) -> Path:
    content = {
        "student": prefixed("module.", prefixed("backbone.", plain_vit(seed=2)) | _head()),
        "teacher": prefixed("backbone.", plain_vit(seed=1)) | _head(),
        "dino_loss": {"center": torch.zeros(1, 16)},
        "args": Namespace(arch="vit_small", patch_size=PATCH),
        **training_state(),
    }
    return saved(folder, "checkpoint.pth", content)


def _dino_teacher(folder: Path) -> Path:
    return saved(folder, "teacher.pth", prefixed("backbone.", plain_vit(seed=1)) | _head())


def _ibot(folder: Path) -> Path:
    head = _head(patches=True)
    student = prefixed("backbone.", plain_vit(seed=2) | {"masked_embed": torch.zeros(1, WIDTH)})
    content = {
        "student": prefixed("module.", student | head),
        "teacher": prefixed("backbone.", plain_vit(seed=1)) | head,
        "ibot_loss": {"center": torch.zeros(1, 16), "center2": torch.zeros(1, 1, 16)},
        "args": Namespace(arch="vit_small"),
        "fp16_scaler": {"scale": 65536.0},
        **training_state(),
    }
    return saved(folder, "checkpoint.pth", content)


def _moco_v3(folder: Path, width: int = WIDTH) -> Path:
    state: State = OrderedDict()
    for seed, encoder in ((1, "base_encoder"), (2, "momentum_encoder")):
        vit = plain_vit(seed=seed, width=width) | {"pos_embed": moco_positions(GRID, width)}
        vit |= {"head.0.weight": numbers(32, width, seed=5), "head.1.running_mean": torch.zeros(32)}
        vit |= {"head.1.num_batches_tracked": torch.tensor(3)}
        state |= prefixed(f"module.{encoder}.", vit)
    state["module.predictor.0.weight"] = numbers(32, 32, seed=6)
    content = {"epoch": 300, "arch": "vit_base", "state_dict": state, "scaler": {"scale": 1.0}}
    return saved(folder, "vit-b-300ep.pth.tar", content | training_state())


def _moco_v3_small(folder: Path) -> Path:
    return _moco_v3(folder, width=384)


def _msn(folder: Path) -> Path:
    heads = {"fc.fc1.weight": numbers(32, WIDTH, seed=5), "fc.bn1.running_mean": torch.zeros(32)}
    content = {
        "encoder": prefixed("module.", plain_vit(seed=2) | heads),
        "opt": training_state()["optimizer"],
        "prototypes": numbers(4, 32, seed=6),
        "target_encoder": prefixed("module.", plain_vit(seed=1) | heads),
        "epoch": 800,
        "loss": 1.5,
        "batch_size": 64,
        "world_size": 16,
        "lr": 1e-3,
        "temperature": 0.1,
    }
    return saved(folder, "vits16_800ep.pth.tar", content)


def _ijepa(folder: Path) -> Path:
    predictor = {"module.mask_token": numbers(1, 1, 32, seed=5)}
    content = {
        "encoder": prefixed("module.", plain_vit(seed=2, cls=False)),
        "predictor": predictor,
        "opt": training_state()["optimizer"],
        "scaler": {"scale": 65536.0},
        "target_encoder": prefixed("module.", plain_vit(seed=1, cls=False)),
        "epoch": 300,
        "loss": 0.2,
        "batch_size": 128,
        "world_size": 16,
        "lr": 1e-3,
    }
    return saved(folder, "IN1K-vit.h.14-300e.pth.tar", content)


def dinov2_vit(*, registers: int = 0, seed: int = 1) -> State:
    state = plain_vit(seed=seed) | {"mask_token": numbers(1, WIDTH, seed=5)}
    if registers:
        state["register_tokens"] = numbers(1, registers, WIDTH, seed=6)
    for number in range(DEPTH):
        for scale in (1, 2):
            state[f"blocks.{number}.ls{scale}.gamma"] = numbers(WIDTH, seed=8 * number + scale) + 1
    return state


def _dinov2(folder: Path) -> Path:
    return saved(folder, "dinov2_vits14_pretrain.pth", dinov2_vit())


def _dinov2_registers(folder: Path) -> Path:
    return saved(folder, "dinov2_vits14_reg4_pretrain.pth", dinov2_vit(registers=4))


def _dinov2_teacher(folder: Path) -> Path:
    """Write a run's file: under `teacher.backbone`, its blocks in chunks, beside heads."""
    backbone = {
        name.replace("blocks.1.", "blocks.1.1.").replace("blocks.0.", "blocks.0.0."): value
        for name, value in dinov2_vit().items()
    }
    heads = {"dino_head.last_layer.weight_g": torch.ones(16, 1)}
    heads |= {"ibot_head.mlp.0.weight": numbers(32, WIDTH, seed=5)}
    content = {"teacher": prefixed("backbone.", backbone) | heads}
    return saved(folder, "teacher_checkpoint.pth", content)


@functools.cache
def dinov3_vit() -> tuple[State, Any]:
    """Meta's names, by the inverse of timm's filter, and the model that they came from."""
    torch.manual_seed(0)
    model = timm.create_model("vit_small_patch16_dinov3_qkvb", img_size=64, num_classes=0).eval()
    state: State = {}
    for place, (name, value) in enumerate(model.state_dict().items()):
        value.copy_(numbers(*value.shape, seed=place) + ("norm" in name and "weight" in name))
        state[
            name.replace("gamma_1", "ls1.gamma")
            .replace("gamma_2", "ls2.gamma")
            .replace("reg_token", "storage_tokens")
        ] = value
    for number in range(12):
        attention = f"blocks.{number}.attn"
        q, v = state.pop(f"{attention}.q_bias"), state.pop(f"{attention}.v_bias")
        # What the mask hides is no number in the published files.
        state[f"{attention}.qkv.bias"] = torch.cat([q, torch.full_like(q, torch.nan), v])
        state[f"{attention}.qkv.bias_mask"] = torch.cat(
            [torch.ones_like(q), torch.zeros_like(q), torch.ones_like(q)]
        )
    state |= {"mask_token": torch.zeros(1, 384), "rope_embed.periods": torch.ones(16)}
    return state, model


def _dinov3(folder: Path) -> Path:
    return saved(folder, "dinov3_vits16_pretrain.pth", dinov3_vit()[0])


def _simmim(folder: Path) -> Path:
    vit = beit_vit(seed=1, shared=True, fine_tuned=False) | {"mask_token": torch.zeros(1, 1, WIDTH)}
    decoder = {
        "decoder.0.weight": numbers(8, WIDTH, 1, 1, seed=5),
        "decoder.0.bias": torch.zeros(8),
    }
    content = {"model": prefixed("encoder.", vit) | decoder, "max_accuracy": 0.0}
    return saved(folder, "simmim_pretrain.pth", content | training_state())


def _simmim_fine_tuned(folder: Path) -> Path:
    vit = beit_vit(seed=1, shared=False, fine_tuned=True)
    return saved(folder, "simmim_finetune.pth", {"model": vit, "max_accuracy": 83.8})


def _beit(file: str, outputs: int, **more: Tensor) -> Writer:
    """A pre-trained file, whose head predicts that many tokens or features."""

    def write(folder: Path) -> Path:
        vit = beit_vit(seed=1, shared=True, fine_tuned=False)
        vit |= {"mask_token": torch.zeros(1, 1, WIDTH), "lm_head.bias": torch.zeros(outputs)}
        vit |= {"lm_head.weight": numbers(outputs, WIDTH, seed=5), **more}
        return saved(folder, file, {"model": vit})

    return write


def _beit_fine_tuned(folder: Path) -> Path:
    vit = beit_vit(seed=1, shared=False, fine_tuned=True)
    args = Namespace(model="beit_base_patch16_224", imagenet_default_mean_and_std=False)
    content = {"model": vit, "args": args, "scaler": {"scale": 1.0}} | training_state()
    return saved(folder, "checkpoint-best.pth", content)


def beit_or_v2(folder: Path) -> Path:
    """Write a fine-tuned file as published, of BEiT or of BEiT v2: it does not state which."""
    vit = beit_vit(seed=1, shared=False, fine_tuned=True)
    return saved(folder, "beit_pt22k_ft22kto1k.pth", {"model": vit})


FOREIGN: dict[str, Writer] = {
    "dino": _dino,
    "dino-teacher": _dino_teacher,
    "ibot": _ibot,
    "moco_v3": _moco_v3,
    "moco_v3-small": _moco_v3_small,
    "msn": _msn,
    "ijepa": _ijepa,
    "dinov2": _dinov2,
    "dinov2-registers": _dinov2_registers,
    "dinov2-teacher": _dinov2_teacher,
    "dinov3": _dinov3,
    "simmim": _simmim,
    "simmim-fine_tuned": _simmim_fine_tuned,
    "beit": _beit("beit_base_patch16_224_pt22k.pth", 20),
    "beit-data2vec": _beit("base_800.pth", WIDTH),
    "beit-v2": _beit(
        "beitv2_base_patch16_224_pt1k.pth",
        20,
        **{"cls_pt_layers.0.norm1.weight": torch.ones(WIDTH)},
    ),
    "beit-fine_tuned": _beit_fine_tuned,
    **LIBRARIES,
}

"""Tiny random files in the published layouts, for tests over all of them.

`LAYOUTS[name](folder)` writes one file (or folder) and returns its path; `name` is the format that
must recognise it, followed by `-variant` where there are several. `layouts_foreign.FOREIGN` holds
the layouts of other code bases.
"""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from timm.models import VisionTransformer
from torch import Tensor, nn

from micl_bench.backbone import Arch, sincos_positions
from micl_bench.checkpoints import save_checkpoint

Writer = Callable[[Path], Path]

SMALL = Arch(
    name="vit_w128_d2_patch8_32", img_size=32, patch_size=8, width=128, depth=2, num_heads=2
)
"""Heads are width / 64, so that every file shows it all."""


def random_state(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Numbers in every tensor: a published file holds other values than a model's zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(value.shape, generator=generator) * 0.05
        + ("norm" in name or "gamma" in name)
        for name, value in model.state_dict().items()
    }


def small_vit(**options: Any) -> VisionTransformer:
    """timm's model of `SMALL`; `options` as `Arch.build`."""
    return SMALL.build(**options)


def mae_encoder(seed: int = 0, **options: Any) -> dict[str, Tensor]:
    """Of `SMALL`, with the fixed positions that MAE and the MiCL authors' code train with."""
    state = random_state(small_vit(**options), seed)
    state["pos_embed"] = torch.cat([torch.zeros(1, 128), sincos_positions(4, 128)])[None]
    return state


def _saved(content: dict[str, Any], path: Path) -> Path:
    torch.save(content, path)
    return path


def _own(folder: Path) -> Path:
    model = small_vit(num_classes=5)
    model.load_state_dict(random_state(model))
    path = folder / "own.pt"
    save_checkpoint(path, model, SMALL, method="MiCL", provenance={"steps": 1})
    return path


def _state_of_training(args: dict[str, Any]) -> dict[str, Any]:
    """What MAE's code saves beside the network."""
    moments = {"step": torch.tensor(3.0), "exp_avg": torch.zeros(4), "exp_avg_sq": torch.zeros(4)}
    optimizer = {"state": {0: moments}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
    scaler = {"scale": 65536.0, "growth_factor": 2.0}
    return {"optimizer": optimizer, "epoch": 199, "scaler": scaler, "args": Namespace(**args)}


def _micl(folder: Path) -> Path:
    options = {"model": "sae_vit_large_patch16", "mask_ratio": 0.9, "blr": 5e-5}
    content = {"model": mae_encoder(), **_state_of_training(options)}
    return _saved(content, folder / "micl.pth")


def _mae_with_decoder(folder: Path) -> Path:
    decoder = Arch(
        name="decoder", img_size=32, patch_size=8, width=64, depth=1, num_heads=1
    ).build()
    tensors = {
        "mask_token": torch.randn(1, 1, 64),
        "decoder_pos_embed": torch.cat([torch.zeros(1, 64), sincos_positions(4, 64)])[None],
        "decoder_embed.weight": torch.randn(64, 128),
        "decoder_embed.bias": torch.randn(64),
        "decoder_pred.weight": torch.randn(192, 64),
        "decoder_pred.bias": torch.randn(192),
    }
    # Its blocks and its norm, as in the encoder: `decoder_blocks.0.norm1.weight`, `decoder_norm.bias`.
    tensors |= {
        f"decoder_{name}": value
        for name, value in random_state(decoder, seed=1).items()
        if name.startswith(("blocks.", "norm."))
    }
    options = {"model": "mae_vit_base_patch16", "mask_ratio": 0.75, "norm_pix_loss": True}
    content = {"model": {**mae_encoder(), **tensors}, **_state_of_training(options)}
    return _saved(content, folder / "mae_checkpoint-199.pth")


def _mae_flat(folder: Path) -> Path:
    """As safetensors, which has no tables: tensors of the network alone."""
    path = folder / "mae.safetensors"
    content = torch.load(_mae_with_decoder(folder), weights_only=False)
    save_file(content["model"], path)
    return path


def _mae_published(folder: Path) -> Path:
    return _saved({"model": mae_encoder()}, folder / "mae_pretrain.pth")


def _mae_fine_tuned(folder: Path) -> Path:
    state = random_state(small_vit(num_classes=5, pool="avg"))
    options = {"model": "vit_base_patch16", "nb_classes": 5, "global_pool": True}
    content = {"model": state, **_state_of_training(options)}
    return _saved(content, folder / "mae_finetuned.pth")


def _mae_probed(folder: Path) -> Path:
    head = {
        "head.0.running_mean": torch.zeros(128),
        "head.0.running_var": torch.ones(128),
        "head.0.num_batches_tracked": torch.tensor(7),
        "head.1.weight": torch.randn(5, 128),
        "head.1.bias": torch.randn(5),
    }
    options = {"model": "vit_base_patch16", "nb_classes": 5, "global_pool": False}
    content = {"model": {**mae_encoder(), **head}, **_state_of_training(options)}
    return _saved(content, folder / "mae_linprobe.pth")


def _timm(folder: Path) -> Path:
    return _saved(random_state(small_vit(num_classes=5)), folder / "timm.pth")


def _timm_safetensors(folder: Path) -> Path:
    path = folder / "timm.safetensors"
    save_file(random_state(small_vit()), path)
    return path


def registers_vit() -> VisionTransformer:
    """timm's ViT with registers, layer scale and mean pooling, without [CLS]."""
    model = timm.create_model(
        "vit_small_patch16_224",
        img_size=32,
        patch_size=8,
        embed_dim=128,
        depth=2,
        num_heads=2,
        reg_tokens=4,
        init_values=1e-5,
        no_embed_class=True,
        class_token=False,
        global_pool="avg",
        num_classes=5,
    )
    assert isinstance(model, VisionTransformer)
    return model


def _timm_registers(folder: Path) -> Path:
    model = registers_vit()
    content = {"state_dict": random_state(model), "arch": "own", "optimizer": {"state": {}}}
    return _saved(content, folder / "timm_registers.pth.tar")


LAYOUTS: dict[str, Writer] = {
    "micl_bench": _own,
    "micl": _micl,
    "mae-decoder": _mae_with_decoder,
    "mae-flat": _mae_flat,
    "mae-published": _mae_published,
    "mae-fine-tuned": _mae_fine_tuned,
    "mae-probed": _mae_probed,
    "timm": _timm,
    "timm-safetensors": _timm_safetensors,
    "timm-registers": _timm_registers,
}

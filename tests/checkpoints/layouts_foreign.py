"""Tiny random files in the layouts of other code bases, as those save them.

`FOREIGN[name](folder)` writes one and returns its path; `name` begins with the format that must
recognise it.
"""

import functools
import logging
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from direct import moco_positions
from layouts import random_state
from timm.models import VisionTransformer
from timm.models.beit import Beit
from torch import Tensor, nn

Writer = Callable[[Path], Path]
State = dict[str, Tensor]

WIDTH, DEPTH, PATCH, SIZE = 128, 2, 8, 32
GRID = SIZE // PATCH
HEADS = WIDTH // 64


def numbers(*shape: int, seed: int) -> Tensor:
    """Small random numbers, another for every seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.1


def plain_vit(*, seed: int = 0, cls: bool = True, width: int = WIDTH) -> State:
    """Every tensor of a ViT under the names that most authors kept from timm."""
    model = VisionTransformer(
        img_size=SIZE,
        patch_size=PATCH,
        embed_dim=width,
        depth=DEPTH,
        num_heads=width // 64,
        num_classes=0,
        class_token=cls,
        global_pool="token" if cls else "avg",
        fc_norm=False,
    )
    return random_state(model, seed)


def beit_vit(*, seed: int = 0, shared: bool, fine_tuned: bool) -> State:
    """The same with BEiT's parts instead of absolute positions, and its buffers of offsets."""
    model = Beit(
        img_size=SIZE,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        num_classes=5 if fine_tuned else 0,
        init_values=0.1,
        use_abs_pos_emb=False,
        use_rel_pos_bias=not shared,
        use_shared_rel_pos_bias=shared,
        global_pool="avg" if fine_tuned else "token",
    )
    tables = ["rel_pos_bias"] if shared else [f"blocks.{n}.attn" for n in range(DEPTH)]
    index = torch.zeros(GRID * GRID + 1, GRID * GRID + 1, dtype=torch.long)
    offsets = {f"{table}.relative_position_index": index for table in tables}
    return random_state(model, seed) | offsets


def prefixed(prefix: str, state: State) -> State:
    return OrderedDict((prefix + name, value) for name, value in state.items())


def _saved(folder: Path, name: str, content: dict[str, Any]) -> Path:
    path = folder / name
    torch.save(content, path)
    return path


def _head(width: int = WIDTH, *, patches: bool = False) -> State:
    """Of DINO and iBOT: three layers, then one under weight normalisation."""
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


def _training_state() -> dict[str, Any]:
    moments = {"exp_avg": torch.zeros(3), "step": torch.tensor(1.0)}
    return {
        "optimizer": {"state": {0: moments}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
        "epoch": 100,
    }


def _dino(folder: Path) -> Path:
    content = {
        "student": prefixed("module.", prefixed("backbone.", plain_vit(seed=2)) | _head()),
        "teacher": prefixed("backbone.", plain_vit(seed=1)) | _head(),
        "dino_loss": {"center": torch.zeros(1, 16)},
        "args": Namespace(arch="vit_small", patch_size=PATCH),
        **_training_state(),
    }
    return _saved(folder, "checkpoint.pth", content)


def _dino_teacher(folder: Path) -> Path:
    return _saved(folder, "teacher.pth", prefixed("backbone.", plain_vit(seed=1)) | _head())


def _ibot(folder: Path) -> Path:
    head = _head(patches=True)
    student = prefixed("backbone.", plain_vit(seed=2) | {"masked_embed": torch.zeros(1, WIDTH)})
    content = {
        "student": prefixed("module.", student | head),
        "teacher": prefixed("backbone.", plain_vit(seed=1)) | head,
        "ibot_loss": {"center": torch.zeros(1, 16), "center2": torch.zeros(1, 1, 16)},
        "args": Namespace(arch="vit_small"),
        "fp16_scaler": {"scale": 65536.0},
        **_training_state(),
    }
    return _saved(folder, "checkpoint.pth", content)


def _moco_v3(folder: Path, width: int = WIDTH) -> Path:
    state: State = OrderedDict()
    for seed, encoder in ((1, "base_encoder"), (2, "momentum_encoder")):
        vit = plain_vit(seed=seed, width=width) | {"pos_embed": moco_positions(GRID, width)}
        vit |= {"head.0.weight": numbers(32, width, seed=5), "head.1.running_mean": torch.zeros(32)}
        vit |= {"head.1.num_batches_tracked": torch.tensor(3)}
        state |= prefixed(f"module.{encoder}.", vit)
    state["module.predictor.0.weight"] = numbers(32, 32, seed=6)
    content = {"epoch": 300, "arch": "vit_base", "state_dict": state, "scaler": {"scale": 1.0}}
    return _saved(folder, "vit-b-300ep.pth.tar", content | _training_state())


def _moco_v3_small(folder: Path) -> Path:
    return _moco_v3(folder, width=384)


def _msn(folder: Path) -> Path:
    heads = {"fc.fc1.weight": numbers(32, WIDTH, seed=5), "fc.bn1.running_mean": torch.zeros(32)}
    content = {
        "encoder": prefixed("module.", plain_vit(seed=2) | heads),
        "opt": _training_state()["optimizer"],
        "prototypes": numbers(4, 32, seed=6),
        "target_encoder": prefixed("module.", plain_vit(seed=1) | heads),
        "epoch": 800,
        "loss": 1.5,
        "batch_size": 64,
        "world_size": 16,
        "lr": 1e-3,
        "temperature": 0.1,
    }
    return _saved(folder, "vits16_800ep.pth.tar", content)


def _ijepa(folder: Path) -> Path:
    predictor = {"module.mask_token": numbers(1, 1, 32, seed=5)}
    content = {
        "encoder": prefixed("module.", plain_vit(seed=2, cls=False)),
        "predictor": predictor,
        "opt": _training_state()["optimizer"],
        "scaler": {"scale": 65536.0},
        "target_encoder": prefixed("module.", plain_vit(seed=1, cls=False)),
        "epoch": 300,
        "loss": 0.2,
        "batch_size": 128,
        "world_size": 16,
        "lr": 1e-3,
    }
    return _saved(folder, "IN1K-vit.h.14-300e.pth.tar", content)


def dinov2_vit(*, registers: int = 0, seed: int = 1) -> State:
    state = plain_vit(seed=seed) | {"mask_token": numbers(1, WIDTH, seed=5)}
    if registers:
        state["register_tokens"] = numbers(1, registers, WIDTH, seed=6)
    for number in range(DEPTH):
        for scale in (1, 2):
            state[f"blocks.{number}.ls{scale}.gamma"] = numbers(WIDTH, seed=8 * number + scale) + 1
    return state


def _dinov2(folder: Path) -> Path:
    return _saved(folder, "dinov2_vits14_pretrain.pth", dinov2_vit())


def _dinov2_registers(folder: Path) -> Path:
    return _saved(folder, "dinov2_vits14_reg4_pretrain.pth", dinov2_vit(registers=4))


def _dinov2_teacher(folder: Path) -> Path:
    """Of a run: under `teacher.backbone`, its blocks in chunks, beside heads."""
    backbone = {
        name.replace("blocks.1.", "blocks.1.1.").replace("blocks.0.", "blocks.0.0."): value
        for name, value in dinov2_vit().items()
    }
    heads = {"dino_head.last_layer.weight_g": torch.ones(16, 1)}
    heads |= {"ibot_head.mlp.0.weight": numbers(32, WIDTH, seed=5)}
    content = {"teacher": prefixed("backbone.", backbone) | heads}
    return _saved(folder, "teacher_checkpoint.pth", content)


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
    return _saved(folder, "dinov3_vits16_pretrain.pth", dinov3_vit()[0])


def _simmim(folder: Path) -> Path:
    vit = beit_vit(seed=1, shared=True, fine_tuned=False) | {"mask_token": torch.zeros(1, 1, WIDTH)}
    decoder = {
        "decoder.0.weight": numbers(8, WIDTH, 1, 1, seed=5),
        "decoder.0.bias": torch.zeros(8),
    }
    content = {"model": prefixed("encoder.", vit) | decoder, "max_accuracy": 0.0}
    return _saved(folder, "simmim_pretrain.pth", content | _training_state())


def _simmim_fine_tuned(folder: Path) -> Path:
    vit = beit_vit(seed=1, shared=False, fine_tuned=True)
    return _saved(folder, "simmim_finetune.pth", {"model": vit, "max_accuracy": 83.8})


def _beit(file: str, outputs: int, **more: Tensor) -> Writer:
    """A pre-trained file, whose head predicts that many tokens or features."""

    def write(folder: Path) -> Path:
        vit = beit_vit(seed=1, shared=True, fine_tuned=False)
        vit |= {"mask_token": torch.zeros(1, 1, WIDTH), "lm_head.bias": torch.zeros(outputs)}
        vit |= {"lm_head.weight": numbers(outputs, WIDTH, seed=5), **more}
        return _saved(folder, file, {"model": vit})

    return write


def _beit_fine_tuned(folder: Path) -> Path:
    vit = beit_vit(seed=1, shared=False, fine_tuned=True)
    args = Namespace(model="beit_base_patch16_224", imagenet_default_mean_and_std=False)
    content = {"model": vit, "args": args, "scaler": {"scale": 1.0}} | _training_state()
    return _saved(folder, "checkpoint-best.pth", content)


def beit_untold(folder: Path) -> Path:
    """A fine-tuned file as published: of BEiT or of BEiT v2, it does not tell."""
    vit = beit_vit(seed=1, shared=False, fine_tuned=True)
    return _saved(folder, "beit_pt22k_ft22kto1k.pth", {"model": vit})


HF_SIZES = {
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "intermediate_size": 4 * WIDTH,
    "image_size": SIZE,
    "patch_size": PATCH,
}
"""Heads of 32 channels, which only the configuration tells."""


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
    return _saved(folder, "vit-base-p16.pth", {"meta": meta, "state_dict": state})


def _openmmlab_avg(folder: Path) -> Path:
    """mmpretrain's fine-tuned MAE: the norm is behind the pooling."""
    vit = plain_vit(seed=1)
    vit |= {f"fc_norm.{part}": vit.pop(f"norm.{part}") for part in ("weight", "bias")}
    state = mmpretrain_names(vit) | {"head.fc.weight": numbers(3, WIDTH, seed=5)}
    state |= {"head.fc.bias": numbers(3, seed=6)}
    return _saved(folder, "mae-finetuned.pth", {"meta": {}, "state_dict": state})


def _openmmlab_timm(folder: Path) -> Path:
    state = prefixed("backbone.", plain_vit(seed=1))
    state |= {"decode_head.conv_seg.weight": numbers(3, 8, 1, 1, seed=5)}
    return _saved(folder, "segmentor.pth", {"meta": {}, "state_dict": state})


class LightlyModule(nn.Module):
    """What lightly's own benchmark of DINO trains: a teacher, its student and their heads."""

    def __init__(self) -> None:
        super().__init__()
        from lightly.models.modules import DINOProjectionHead, MaskedVisionTransformerTIMM
        from timm.models import VisionTransformer

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
        "optimizer_states": [_training_state()["optimizer"]],
        "hyper_parameters": {"num_classes": 3},
    }
    return _saved(folder, "epoch=1-step=10.ckpt", content)


def _lightly_alone(folder: Path) -> Path:
    torch.manual_seed(0)
    backbone: nn.Module = LightlyModule().get_submodule("backbone")
    return _saved(folder, "backbone.pth", backbone.state_dict())


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
    return _saved(folder, "simclr-ep=399.ckpt", content)


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

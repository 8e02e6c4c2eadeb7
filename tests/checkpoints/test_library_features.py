"""Features of checkpoints that a library makes equal that library's own."""

import functools
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from layouts_foreign import FOREIGN, dinov2_vit, dinov3_vit
from layouts_libraries import HF_OPTIONS, LightlyModule, hf_model
from layouts_parts import DEPTH, HEADS, PATCH, SIZE, WIDTH, State, beit_vit, numbers, plain_vit
from timm.models import VisionTransformer
from timm.models.beit import Beit
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from micl_bench.checkpoints import load_backbone, load_checkpoint, load_classifier

TOLERANCE = 1e-5
LARGER = 48


def images(size: int) -> Tensor:
    return numbers(2, 3, size, size, seed=99) * 10


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


def with_numbers(model: nn.Module) -> nn.Module:
    """Numbers in every floating tensor, and evaluation mode."""
    for place, (name, value) in enumerate(model.state_dict().items()):
        if value.is_floating_point():
            value.copy_(numbers(*value.shape, seed=place) + ("n1" in name and "weight" in name))
    model.eval()
    return model


@pytest.mark.parametrize(
    "name",
    ["ViTModel", "ViTMSNModel", "IJepaModel", "Dinov2Model", "Dinov2WithRegistersModel"],
)
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@torch.no_grad()
def test_transformers(tmp_path: Path, name: str, suffix: str) -> None:
    reference = hf_model(name)
    reference.save_pretrained(tmp_path)
    if suffix == "bin":
        (tmp_path / "model.safetensors").unlink()
        stored = _stored_names(tmp_path, reference)
        torch.save(stored, tmp_path / "pytorch_model.bin")
    for size in (SIZE, LARGER):
        # The DINOv2 models always interpolate.
        options = {} if "Dinov2" in name else {"interpolate_pos_encoding": True}
        expected = reference(pixel_values=images(size), **options).last_hidden_state
        found = load_backbone(tmp_path, img_size=size).forward_features(images(size))
        assert_same(found, expected)


def _stored_names(folder: Path, reference: Any) -> State:
    """The tensors under the names of files, which transformers changes on the way."""
    from safetensors.torch import load_file

    reference.save_pretrained(folder / "again")
    return load_file(folder / "again" / "model.safetensors")


@torch.no_grad()
def test_transformers_mae(tmp_path: Path) -> None:
    path = FOREIGN["huggingface-vit_mae"](tmp_path)
    name = "ViTMAEForPreTraining"
    reference = hf_model(name, **HF_OPTIONS[name]).vit
    for size in (SIZE, LARGER):
        number = (size // PATCH) ** 2
        # Nothing is masked; rising noise keeps the order of the patches.
        noise = torch.linspace(0, 1, number).expand(2, number)
        expected = reference(
            pixel_values=images(size), noise=noise, interpolate_pos_encoding=True
        ).last_hidden_state
        found = load_backbone(path, img_size=size).forward_features(images(size))
        assert_same(found, expected)


@torch.no_grad()
def test_transformers_classifiers(tmp_path: Path) -> None:
    path = FOREIGN["huggingface-vit_classifier"](tmp_path)
    name = "ViTForImageClassification"
    reference = hf_model(name, **HF_OPTIONS[name])
    assert_same(load_classifier(path)(images(SIZE)), reference(images(SIZE)).logits)
    assert load_checkpoint(path).classes == ("tench", "goldfish", "shark")
    # DINOv2's head reads [CLS] beside the patches' mean: it is left out, and the file says why.
    loaded = load_checkpoint(FOREIGN["huggingface-dinov2_classifier"](tmp_path))
    assert loaded.content.num_classes == 0
    reasons = {fate.name: fate.reason for fate in loaded.content.fates}
    assert "mean" in reasons["classifier.weight"]


def _in_transformers(state: State, model: Any, top: str = "") -> Any:
    """Load official names into one of transformers' models: the authors' conversion, written anew."""
    target = {}
    for name, value in state.items():
        name = name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
        name = name.replace("pos_embed", "embeddings.position_embeddings")
        for part in ("cls_token", "mask_token", "register_tokens"):
            name = name.replace(part, f"embeddings.{part}")
        name = name.replace("blocks.", "encoder.layer.").replace(
            "attn.proj", "attention.output.dense"
        )
        if "layer" not in name and name.startswith("norm."):
            name = name.replace("norm.", "layernorm.")
        name = name.replace(".ls1.gamma", ".layer_scale1.lambda1")
        name = name.replace(".ls2.gamma", ".layer_scale2.lambda1")
        if "dinov2" not in model.config.model_type:
            name = name.replace("norm1", "layernorm_before").replace("norm2", "layernorm_after")
            name = name.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense")
        if "attn.qkv" in name:
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                target[name.replace("attn.qkv", f"attention.attention.{part}")] = piece
        else:
            target[name] = value
    with_file_names = type(model).from_pretrained(
        None, config=model.config, state_dict={top + name: value for name, value in target.items()}
    )
    return with_file_names.eval()


@pytest.mark.parametrize(
    ("fixture", "name", "state", "sizes"),
    [
        # At a larger size the authors' code adds 0.1 to the grid, which transformers does not.
        ("dinov2", "Dinov2Model", dinov2_vit(), (SIZE,)),
        ("dinov2-teacher", "Dinov2Model", dinov2_vit(), (SIZE,)),
        ("dinov2-registers", "Dinov2WithRegistersModel", dinov2_vit(registers=4), (SIZE, LARGER)),
        ("msn", "ViTMSNModel", plain_vit(seed=1), (SIZE, LARGER)),
        ("ijepa", "IJepaModel", plain_vit(seed=1, cls=False), (SIZE, LARGER)),
    ],
)
@torch.no_grad()
def test_official_files_as_transformers_reads_them(
    tmp_path: Path, fixture: str, name: str, state: State, sizes: tuple[int, ...]
) -> None:
    path = FOREIGN[fixture](tmp_path)
    reference = _in_transformers(
        state, hf_model(name, num_attention_heads=HEADS, layer_norm_eps=1e-6)
    )
    for size in sizes:
        options = {} if "Dinov2" in name else {"interpolate_pos_encoding": True}
        expected = reference(pixel_values=images(size), **options).last_hidden_state
        found = load_backbone(path, img_size=size).forward_features(images(size))
        assert_same(found, expected)


@pytest.mark.parametrize(("fixture", "registers"), [("dinov2", 0), ("dinov2-registers", 4)])
@torch.no_grad()
def test_dinov2_as_timm_reads_it(tmp_path: Path, fixture: str, registers: int) -> None:
    reference = VisionTransformer(
        img_size=SIZE,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        num_classes=0,
        init_values=1e-5,
        reg_tokens=registers,
        no_embed_class=registers > 0,
    ).eval()
    reference.load_state_dict(checkpoint_filter_fn(dinov2_vit(registers=registers), reference))
    found = load_backbone(FOREIGN[fixture](tmp_path)).forward_features(images(SIZE))
    assert_same(found, reference.forward_features(images(SIZE)))


@torch.no_grad()
def test_dinov3_as_timm_reads_it(tmp_path: Path) -> None:
    path = FOREIGN["dinov3"](tmp_path)
    _, reference = dinov3_vit()
    for size in (64, 96):
        found = load_backbone(path, img_size=size).forward_features(images(size))
        assert_same(found, reference.forward_features(images(size)))


@pytest.mark.parametrize(
    "name",
    ["beit", "beit-v2", "beit-data2vec", "simmim", "beit-fine_tuned", "simmim-fine_tuned"],
)
@torch.no_grad()
def test_beit_as_timm_reads_it(tmp_path: Path, name: str) -> None:
    path, is_tuned = FOREIGN[name](tmp_path), name.endswith("fine_tuned")
    state = beit_vit(seed=1, shared=not is_tuned, fine_tuned=is_tuned)
    for size in (SIZE, LARGER):
        reference = Beit(
            img_size=size,
            patch_size=PATCH,
            embed_dim=WIDTH,
            depth=DEPTH,
            num_heads=HEADS,
            num_classes=5 if is_tuned else 0,
            init_values=0.1,
            use_abs_pos_emb=False,
            use_rel_pos_bias=is_tuned,
            use_shared_rel_pos_bias=not is_tuned,
            global_pool="avg" if is_tuned else "token",
            norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),  # type: ignore[arg-type]
        ).eval()
        reference.load_state_dict(timm.models.beit.checkpoint_filter_fn(dict(state), reference))
        found = load_backbone(path, img_size=size).forward_features(images(size))
        expected = reference.forward_features(images(size))
        # Without its head, the norm is before the pooling again.
        assert_same(found, reference.fc_norm(expected) if is_tuned else expected)
        if is_tuned and size == SIZE:
            assert_same(load_classifier(path)(images(size)), reference(images(size)))


@pytest.mark.parametrize("name", ["lightly", "lightly-alone"])
@torch.no_grad()
def test_lightly(tmp_path: Path, name: str) -> None:
    path = FOREIGN[name](tmp_path)
    torch.manual_seed(0)
    reference: Any = LightlyModule().eval()
    branches = {"backbone": reference.backbone, "student_backbone": reference.student_backbone}
    for branch, backbone in branches.items() if name == "lightly" else [(None, reference.backbone)]:
        for size in (SIZE, LARGER):
            found = load_backbone(path, branch=branch, img_size=size)
            assert_same(found.forward_features(images(size)), backbone.encode(images(size)))


def _segmentor(make: Callable[[], nn.Module], folder: Path) -> tuple[Path, nn.Module]:
    backbone = with_numbers(make())
    state = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    state["decode_head.conv_seg.weight"] = torch.zeros(2, 2, 1, 1)
    path = folder / "iter_160000.pth"
    torch.save({"state_dict": state, "meta": {"iter": 160000}}, path)
    return path, backbone


@pytest.mark.parametrize("kind", ["VisionTransformer", "BEiT", "MAE"])
@torch.no_grad()
def test_mmsegmentation(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("mmseg")
    # Brings stand-ins for mmcv's compiled operators, which mmseg may import.
    importlib.import_module("micl_bench.openmmlab")
    backbones = importlib.import_module("mmseg.models.backbones")
    options = {"final_norm": True, "norm_cfg": {"type": "LN", "eps": 1e-6}, "out_indices": [1]}
    options |= {} if kind == "VisionTransformer" else {"init_values": 0.1}

    def make() -> nn.Module:
        model: nn.Module = getattr(backbones, kind)(
            img_size=(SIZE, SIZE),
            patch_size=PATCH,
            embed_dims=WIDTH,
            num_layers=DEPTH,
            num_heads=HEADS,
            mlp_ratio=4,
            **options,
        )
        return model

    path, reference = _segmentor(make, tmp_path)
    for size in (SIZE, LARGER) if kind == "VisionTransformer" else (SIZE,):
        found = load_backbone(path, img_size=size).forward_features(images(size))
        (expected_NDhw,) = reference(images(size))
        assert_same(found[:, 1:], expected_NDhw.flatten(2).transpose(1, 2))

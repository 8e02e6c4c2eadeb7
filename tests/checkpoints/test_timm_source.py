"""`timm:NAME`: any ViT of timm, its weights from timm's own cache."""

from pathlib import Path

import pytest
import timm
import torch
from layouts import random_state
from safetensors.torch import save_file

from micl_bench.backbone import named_arch, timm_vit
from micl_bench.checkpoints import load_checkpoint
from micl_bench.checkpoints._filling import without_head
from micl_bench.checkpoints._infer import arch_of
from micl_bench.runtime.errors import InputError

NAMES = {
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k": 48,
    "test_vit3.r160_in1k": 64,
    "eva02_tiny_patch14_224.mim_in22k": 42,
}
"""Names with another input size to try: a plain ViT with a mean of 0.5, one with everything timm
has to itself, one with rotary positions and gated MLPs."""


def _fill_cache(name: str, folder: Path) -> dict[str, torch.Tensor]:
    """What a download of the model leaves behind, with random numbers."""
    config = timm.models.get_pretrained_cfg(name)
    state = random_state(timm.create_model(name, num_classes=config.num_classes))
    repository = folder / f"models--{config.hf_hub_id}".replace("/", "--")
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    save_file(state, snapshot / "model.safetensors")
    return state


@pytest.mark.parametrize("name", NAMES)
def test_any_vit_of_timm_gives_timms_tokens_at_any_size(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    state = _fill_cache(name, tmp_path)
    loaded = load_checkpoint(f"timm:{name}")
    config = timm.models.get_pretrained_cfg(name)
    assert (loaded.content.mean, loaded.content.std) == (config.mean, config.std)
    assert loaded.method == name
    for img_size in (loaded.arch.img_size, NAMES[name]):
        reference = timm.create_model(
            name.partition(".")[0], img_size=img_size, num_classes=config.num_classes
        ).eval()
        module = __import__(type(reference).__module__, fromlist=["checkpoint_filter_fn"])
        reference.load_state_dict(module.checkpoint_filter_fn(dict(state), reference))
        images_NCHW = torch.randn(1, 3, img_size, img_size)
        with torch.no_grad():
            found = loaded.backbone(img_size=img_size).forward_features(images_NCHW)
            expected = reference.forward_features(images_NCHW)
            if not isinstance(reference.fc_norm, torch.nn.Identity):
                # The last norm is behind timm's pooling; ours is always on the tokens.
                expected = reference.fc_norm(expected)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
            if loaded.content.num_classes and img_size == loaded.arch.img_size:
                logits = loaded.classifier()(images_NCHW)
                torch.testing.assert_close(logits, reference(images_NCHW), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "by_its_name"),
    [
        ("vit_tiny_patch16_224", False),
        ("vit_base_patch14_reg4_dinov2", False),
        ("vit_giant_patch14_dinov2", True),
        ("vit_huge_patch14_gap_224", False),
        ("vit_base_patch16_siglip_224", True),
        ("vit_base_patch16_clip_quickgelu_224", True),
        ("beit_base_patch16_224", False),
        ("deit3_small_patch16_224", False),
        ("vit_small_patch16_dinov3", True),
        ("vit_pe_spatial_tiny_patch16_512", True),
    ],
)
def test_sizes_tell_a_model_only_where_they_build_the_same(name: str, by_its_name: bool) -> None:
    model = timm_vit(name)
    arch = arch_of(model, name)
    assert bool(arch.timm_name) == by_its_name
    assert arch.num_heads == model.blocks[0].attn.num_heads
    with torch.device("meta"):
        built = arch.build_any().state_dict()
    kept = without_head(model.state_dict())
    assert {key: value.shape for key, value in built.items()} == {
        key: value.shape for key, value in kept.items()
    }
    assert arch.is_plain == (name == "vit_tiny_patch16_224")


def test_other_models_and_missing_weights_are_refused() -> None:
    for name, words in (
        ("resnet50", "no plain ViT is called"),
        ("vit_base_patch16_xp_224", "other blocks"),
        ("vit_base_patch16_sapiens2", "not square"),
        ("vit_tiny_patch16_224.nonsense", "timm cannot make"),
    ):
        with pytest.raises(InputError, match=words):
            load_checkpoint(f"timm:{name}")
    with pytest.raises(InputError, match="needs no --arch"):
        load_checkpoint("timm:vit_tiny_patch16_224", layout="mae")
    assert load_checkpoint("random:vit_demo_patch4_32").arch == named_arch("vit_demo_patch4_32")

"""Loading: every parameter filled or refused, nothing in a file is ever run."""

import pickle
from pathlib import Path

import pytest
import timm
import torch
from layouts import LAYOUTS

import micl_bench
from micl_bench.backbone import named_arch
from micl_bench.checkpoints import load_checkpoint, save_checkpoint
from micl_bench.runtime.errors import InputError

TINY = "vit_demo_patch4_32"


def test_own_file_gives_the_same_features(tmp_path: Path) -> None:
    model = micl_bench.load_backbone(f"random:{TINY}")
    path = tmp_path / "own.pt"
    save_checkpoint(path, model, named_arch(TINY), method="MiCL", provenance={"steps": 1})
    images_NCHW = torch.randn(2, 3, 32, 32)
    loaded = micl_bench.load_backbone(path)
    assert torch.equal(loaded.forward_features(images_NCHW), model.forward_features(images_NCHW))
    assert load_checkpoint(path).method == "MiCL"


class _Attack:
    """Unpickled, it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path, str]]:
        return Path.write_text, (self.target, "owned")


@pytest.mark.parametrize(
    "pickler", [torch.save, lambda obj, path: path.write_bytes(pickle.dumps(obj))]
)
def test_a_malicious_file_runs_nothing(tmp_path: Path, pickler) -> None:  # type: ignore[no-untyped-def]
    target, path = tmp_path / "owned.txt", tmp_path / "evil.pth"
    pickler({"model": _Attack(target)}, path)
    with pytest.raises(InputError, match=r"refuses|torch.save does not write"):
        load_checkpoint(path)
    assert not target.exists()
    # The same file does write when unpickled: the attack is real.
    with path.open("rb") as file:
        if pickler is not torch.save:
            pickle.load(file)
            assert target.exists()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("missing.pth", "no checkpoint file"),
        ("random:nothing", "no architecture"),
        ("timm:resnet50", "no plain ViT"),
    ],
)
def test_unknown_sources_are_refused(source: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_checkpoint(source)


def test_random_weights_are_a_function_of_the_seed() -> None:
    one, same, other = (load_checkpoint(f"random:{TINY}", seed=s).info.digest for s in (1, 1, 2))
    assert one == same != other


def test_a_backbone_has_no_classifier() -> None:
    with pytest.raises(InputError, match="no classifier head"):
        micl_bench.load_classifier(f"random:{TINY}")


def test_positions_by_timms_rule_are_reported_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    # What is said once is known by the file's name.
    path = LAYOUTS["timm"](tmp_path)
    loaded = load_checkpoint(path)
    assert loaded.content.guesses == ("heads", "pixels", "norm_eps", "positions")
    loaded.backbone()
    assert capfd.readouterr().err.count("assumed, as the file does not state it: 2 heads") == 1
    loaded.backbone(img_size=96)
    loaded.backbone(img_size=32)
    assert capfd.readouterr().err.count("does not state how its method brings positions") == 1
    load_checkpoint(path, layout="timm").backbone(img_size=96)
    assert "brings positions" not in capfd.readouterr().err


def test_layer_scale_of_two_families_asks_which(tmp_path: Path) -> None:
    path = tmp_path / "rope.pth"
    model = timm.create_model("vit_small_patch16_rope_ape_224", num_classes=0, img_size=32)
    state = model.state_dict()
    assert {"pos_embed", "blocks.0.gamma_1"} <= state.keys()
    torch.save(state, path)
    with pytest.raises(InputError, match=r"deit3_small_patch16_224 or .*rope_ape_224"):
        load_checkpoint(path)
    images_NCHW = torch.randn(1, 3, 32, 32)
    found = load_checkpoint(path, arch="vit_small_patch16_rope_ape_224").backbone()
    torch.testing.assert_close(
        found.forward_features(images_NCHW), model.eval().forward_features(images_NCHW)
    )


def test_a_head_that_the_classifier_does_not_have_is_left_out_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    plain = timm.create_model("vit_tiny_patch16_224", num_classes=7, img_size=32, depth=2)
    state = plain.state_dict()
    surplus = {
        "head_dist.weight": torch.zeros(7, 192),
        "attn_pool.latent": torch.zeros(1, 1, 192),
        "fc_norm.weight": torch.ones(192),
    }
    for name, value in surplus.items():
        for head in (state, {key: state[key] for key in state if not key.startswith("head")}):
            torch.save({**head, name: value}, path)
            content = load_checkpoint(path).content
            assert (content.num_classes, content.classes) == (0, ())
            fates = {fate.name: fate for fate in content.fates}
            assert (fates[name].kind, fates[name].target) == ("left out", "")
            used = {fate.target for fate in content.fates if fate.kind != "left out"}
            assert used == content.state.keys() == {k for k in state if not k.startswith("head")}
    for change, words in (
        ({"head.bias": torch.zeros(6)}, r"head\.bias is \(6,\), needed \(7,\)"),
        ({"head.weight": torch.zeros(7, 100)}, r"head\.weight is \(7, 100\)"),
    ):
        torch.save({**state, **change}, path)
        with pytest.raises(InputError, match=words):
            load_checkpoint(path)
    del state["head.bias"]
    torch.save(state, path)
    with pytest.raises(InputError, match=r"missing head\.bias"):
        load_checkpoint(path)


@pytest.mark.parametrize("rows", [0, 20])
def test_what_is_wrong_is_said_once(rows: int, tmp_path: Path) -> None:
    state = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=32).state_dict()
    torch.save({**state, "pos_embed": torch.zeros(1, rows, 192)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match=f"{rows} positions") as caught:
        load_checkpoint(tmp_path / "x.pth")
    assert "misshapen" not in str(caught.value)
    torch.save({**state, "pos_embed": torch.tensor(1.0)}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="is missing or misshapen"):
        load_checkpoint(tmp_path / "x.pth")

"""Statements of checkpoints are read; assumptions are listed in words, and `--strict` refuses them."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from layouts import mae_encoder
from layouts_foreign import FOREIGN, beit_or_v2
from safetensors.torch import save_file
from timm.models import VisionTransformer
from timm.models._hub import save_for_hf

from micl_bench.checkpoints import export, load_backbone, load_checkpoint, save_checkpoint
from micl_bench.runtime.errors import InputError

HALF = (0.5, 0.5, 0.5)
SIZES: dict[str, Any] = {"patch_size": 4, "embed_dim": 128, "depth": 2}
ImagesSize = int | tuple[int, int]


def vit(heads: int = 4, img_size: ImagesSize = 32, **options: Any) -> VisionTransformer:
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=img_size, num_heads=heads, num_classes=0, **{**SIZES, **options}
    )
    torch.nn.init.normal_(model.pos_embed)
    return model.eval()


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def hub_folder(folder: Path, **changes: Any) -> Path:
    """Write a folder as timm itself does, with some keys of its configuration changed."""
    model = timm.create_model(
        "vit_tiny_patch16_224.augreg_in21k", img_size=32, num_heads=4, num_classes=3, **SIZES
    )
    save_for_hf(model, str(folder), safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


def guessed(source: Path, **options: Any) -> tuple[str, ...]:
    return load_checkpoint(source, **options).content.guesses


def test_a_folder_of_timms_own_is_read_as_its_configuration_states(tmp_path: Path) -> None:
    loaded = load_checkpoint(hub_folder(tmp_path / "hub"))
    assert (loaded.content.mean, loaded.content.std) == (HALF, HALF)
    assert (loaded.arch.num_heads, loaded.arch.img_size) == (4, 32)
    assert loaded.described_at(48).guesses == ()
    assert loaded.method == "hub"
    # The file alone is the same: what lies beside it is read too.
    alone = load_checkpoint(tmp_path / "hub" / "model.safetensors")
    assert (alone.content.mean, alone.method, alone.info.digest) == (
        HALF,
        "hub",
        loaded.info.digest,
    )
    pixels = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "tag": "own"}
    other = load_checkpoint(hub_folder(tmp_path / "other", pretrained_cfg=pixels))
    assert (other.content.mean, other.content.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    bare = hub_folder(tmp_path / "bare", pretrained_cfg={}, model_args={})
    assert guessed(bare) == ("heads", "pixels")


@pytest.mark.parametrize(
    "beside",
    [
        {"args": Namespace(num_heads=4, mean=[0.5] * 3, std=[0.5] * 3, norm_eps=1e-5)},
        {"hyper_parameters": {"backbone": {"num_heads": 4}, "layer_norm_eps": 1e-5,
                              "image_mean": HALF, "image_std": HALF}},
        {"config": {"model_args": {"num_heads": 4, "norm_eps": 1e-5},
                    "pretrained_cfg": {"mean": [127.5] * 3, "std": [127.5] * 3}}},
    ],
    ids=["args", "hyper_parameters", "config"],
)  # fmt: skip
def test_what_a_file_states_beside_its_tensors_is_no_guess(
    beside: dict[str, Any], tmp_path: Path
) -> None:
    path = saved({"state_dict": vit().state_dict(), **beside}, tmp_path / "x.pth")
    loaded = load_checkpoint(path)
    assert (loaded.arch.num_heads, loaded.arch.norm_eps) == (4, 1e-5)
    assert loaded.content.mean == pytest.approx(HALF)
    assert loaded.content.guesses == ("positions",)


def test_metadata_of_safetensors_is_a_statement_too(tmp_path: Path) -> None:
    config = json.dumps({"num_heads": 4, "mean": [0.5] * 3, "std": [0.5] * 3})
    save_file(vit().state_dict(), tmp_path / "x.safetensors", {"config": config})
    loaded = load_checkpoint(tmp_path / "x.safetensors")
    assert (loaded.arch.num_heads, loaded.content.mean) == (4, HALF)


def test_timms_training_script_means_its_models_pixels(tmp_path: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", depth=12, num_classes=5)
    args = Namespace(
        model="vit_tiny_patch16_224", mean=None, std=None, crop_pct=None, interpolation=""
    )
    content = {"arch": "vit_tiny_patch16_224", "state_dict": model.state_dict(), "args": args}
    loaded = load_checkpoint(saved(content, tmp_path / "last.pth.tar"))
    assert (loaded.content.mean, loaded.arch.num_heads, loaded.content.guesses) == (HALF, 3, ())


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("huggingface-vit", ("pixels",)),
        ("huggingface-vit_mae", ("pixels",)),
        ("dino", ("heads",)),
        ("moco_v3-small", ()),
        ("beit", ("pixels",)),
        ("beit-fine_tuned", ()),
        ("lightly", ("heads", "pixels", "norm_eps")),
        ("solo_learn", ("heads", "pixels", "positions")),
        ("openmmlab-avg", ("heads", "pixels")),
    ],
)
def test_each_layout_says_what_it_leaves_open(
    name: str, wanted: tuple[str, ...], tmp_path: Path
) -> None:
    assert guessed(FOREIGN[name](tmp_path)) == wanted


def test_heads_that_no_tensor_tells_are_marked_until_they_are_stated(tmp_path: Path) -> None:
    model, images_NCHW = vit(heads=4), torch.randn(2, 3, 32, 32)
    path = saved({"model": model.state_dict()}, tmp_path / "four-heads.pth")
    info = load_checkpoint(path).described_at(32)
    assert info.guesses == (
        "2 heads (width / 64)",
        "ImageNet's mean and std of the pixels",
        "norms' epsilon 1e-06",
    )
    assert load_checkpoint(path).described_at(64).guesses[-1].startswith("positions resampled")
    found = load_backbone(path, arch="heads=4")
    with torch.no_grad():
        torch.testing.assert_close(
            found.forward_features(images_NCHW), model.forward_features(images_NCHW)
        )
    stated = load_checkpoint(path, arch="heads=4,norm_eps=1e-6", pixels="imagenet", layout="timm")
    assert stated.described_at(64).guesses == ()
    with pytest.raises(InputError, match="3 heads do not divide a width of 128"):
        load_checkpoint(path, arch="heads=3")
    with pytest.raises(InputError, match="needed is an architecture's name, or values such as"):
        load_checkpoint(path, arch="heads=many")


@pytest.mark.parametrize("sides", [(96, 48), (72, 64), (144, 32)])
@pytest.mark.parametrize("layer_scale", [None, 1e-5])
def test_a_grid_that_is_no_square_is_not_taken_for_one(
    sides: tuple[int, int], layer_scale: float | None, tmp_path: Path
) -> None:
    path = saved(vit(img_size=sides, init_values=layer_scale).state_dict(), tmp_path / "grid.pth")
    rows = (sides[0] // 4) * (sides[1] // 4) + 1
    with pytest.raises(
        InputError, match=f"{rows} positions fit 17 x 17 .* no tensor tells"
    ) as caught:
        load_checkpoint(path)
    for advice in ("--arch grid=17x17", "where [CLS] has none", "give a network on square images"):
        assert advice in str(caught.value)
    # The advice is followed: it says what is wrong, and does not ask again.
    with pytest.raises(InputError, match=r"288 positions|do not fit|289 positions"):
        load_checkpoint(path, arch="vit_small_patch16_224")


def test_a_grid_without_a_position_of_the_class_token_is_read_once_it_is_stated(
    tmp_path: Path,
) -> None:
    model, images_NCHW = vit(no_embed_class=True), torch.randn(1, 3, 32, 32)
    path = saved(model.state_dict(), tmp_path / "grid.pth")
    with pytest.raises(InputError, match="64 positions fit 8 x 8"):
        load_checkpoint(path)
    found = load_backbone(path, arch="grid=8x8,heads=4")
    with torch.no_grad():
        torch.testing.assert_close(
            found.forward_features(images_NCHW), model.forward_features(images_NCHW)
        )
    # A file that states its input states its grid.
    stated = {"state_dict": model.state_dict(), "args": Namespace(img_size=32, num_heads=4)}
    assert load_checkpoint(saved(stated, tmp_path / "stated.pth")).arch.patch_positions_only


def test_published_networks_without_a_position_of_the_class_token_are_read_and_marked(
    tmp_path: Path,
) -> None:
    small = {"depth": 2, "num_heads": 6, "num_classes": 0}
    names = {
        "deit3_small_patch16_224": 14,
        "deit3_small_patch16_384": 24,
        "flexivit_small": 15,
    }
    for name, grid in names.items():
        options = {} if name.startswith("flexivit") else small
        model = timm.create_model(name, **options)
        path = saved({"model": model.state_dict()}, tmp_path / f"{name}.pth")
        loaded = load_checkpoint(path)
        assert loaded.arch.patch_positions_only
        assert loaded.arch.img_size == 16 * grid
        marked = f"{grid} x {grid} patches without positions for tokens before them"
        assert marked in loaded.described_at(loaded.arch.img_size).guesses
        with pytest.raises(InputError, match=f"--arch grid={grid}x{grid} states it"):
            loaded.refuse_guesses(None)
        found = {"grid", "norm_eps"} & set(guessed(path, layout="timm"))
        assert found == {"grid", "norm_eps"}
        assert "grid" not in guessed(path, arch=f"grid={grid}x{grid}")
        stated = {"model": model.state_dict(), "args": Namespace(img_size=16 * grid)}
        assert "grid" not in guessed(saved(stated, tmp_path / "stated.pth"))


_PIXELS = "needed: three numbers each for mean"


@pytest.mark.long
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrained_cfg": {"mean": [0.5], "std": HALF}}, f"pretrained_cfg.mean is .*{_PIXELS}"),
        ({"pretrained_cfg": {"mean": "0.5", "std": HALF}}, f"pretrained_cfg.mean is .*{_PIXELS}"),
        ({"pretrained_cfg": {"mean": 0.5, "std": HALF}}, f"pretrained_cfg.mean is .*{_PIXELS}"),
        ({"pretrained_cfg": {"mean": HALF}}, f"pretrained_cfg.std is None.*{_PIXELS}"),
        ({"pretrained_cfg": {"mean": HALF, "std": [0, 0, 0]}}, f"_cfg.std is .*{_PIXELS}"),
        ({"model_args": {"num_heads": "4"}}, "model_args.num_heads is '4'; needed: a whole"),
        ({"model_args": {"num_heads": 0}}, "model_args.num_heads is 0; needed: a whole"),
        ({"model_args": {"num_heads": 2.5}}, "model_args.num_heads is 2.5; needed: a whole"),
        ({"model_args": {"norm_eps": "small"}}, "model_args.norm_eps is 'small'; needed: a number"),
        ({"model_args": {"img_size": "32"}}, "model_args.img_size is '32'; needed: pixels"),
        ({"model_args": {"num_heads": 3}}, "model_args.num_heads is 3, which does not fit"),
        ({"model_args": {"img_size": 64}}, "img_size is 64, but the positions are of 32 pixels"),
        ({"model_args": {"img_size": [64, 64]}}, "img_size is .*but the positions are of 32"),
        ({"model_args": {"patch_size": 8}}, "patch_size is 8, but the tensors have 4"),
        ({"model_args": {"embed_dim": 64}}, "embed_dim is 64, but the tensors have 128"),
        ({"model_args": {"depth": 3}}, "depth is 3, but the tensors have 2"),
    ],
)  # fmt: skip
def test_a_statement_that_cannot_be_used_is_an_error_that_names_file_and_key(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = hub_folder(tmp_path / "hub", **changes)
    with pytest.raises(InputError, match=rf"{folder}: config\.json: .*{message}"):
        load_checkpoint(folder)


def test_what_the_user_states_goes_before_a_statement_that_cannot_be_used(tmp_path: Path) -> None:
    for number, (changes, options) in enumerate(
        (
            ({"pretrained_cfg": {"mean": [0.5], "std": [0]}}, {"pixels": "inception"}),
            ({"model_args": {"num_heads": "4"}}, {"arch": "heads=4"}),
            ({"model_args": {"img_size": 64}}, {"arch": "grid=8x8"}),
        )
    ):
        folder = hub_folder(tmp_path / str(number), **changes)
        assert load_checkpoint(folder, **options).arch.img_size == 32


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"pretrained_cfg": {"mean": None, "std": None}}, ("pixels",)),
        ({"model_args": {"num_heads": None}}, ("heads",)),
        ({"model_args": {"num_heads": 4, "img_size": None}}, ()),
    ],
)
def test_null_counts_as_not_stated(
    changes: dict[str, Any], wanted: tuple[str, ...], tmp_path: Path
) -> None:
    assert guessed(hub_folder(tmp_path / "hub", **changes)) == wanted


def test_null_counts_as_not_stated_in_folders_of_transformers_too(tmp_path: Path) -> None:
    folder = FOREIGN["huggingface-vit"](tmp_path)
    nulls = {"image_mean": None, "image_std": None}
    (folder / "preprocessor_config.json").write_text(json.dumps(nulls))
    assert guessed(folder) == ("pixels",)


@pytest.mark.parametrize("layout", [None, "timm"])
def test_naming_a_librarys_format_states_no_epsilon(layout: str | None, tmp_path: Path) -> None:
    path = saved(vit().state_dict(), tmp_path / "x.pth")
    loaded = load_checkpoint(path, arch="heads=4", pixels="imagenet", layout=layout)
    with pytest.raises(InputError, match="--arch norm_eps=E states it"):
        loaded.refuse_guesses(32)
    stated = load_checkpoint(path, arch="heads=4,norm_eps=1e-6", pixels="imagenet", layout=layout)
    stated.refuse_guesses(32)


def test_where_the_method_has_a_position_of_the_class_token_no_other_grid_is_read(
    tmp_path: Path,
) -> None:
    state = vit(img_size=(96, 48)).state_dict()
    path = saved({"teacher": state, "dino_loss": {}, "student": {}}, tmp_path / "x.pth")
    with pytest.raises(InputError, match="--arch grid=17x17"):
        load_checkpoint(path)
    with pytest.raises(InputError, match="which the code of dino always has"):
        load_checkpoint(path, arch="grid=17x17")


def test_an_input_that_is_stated_as_oblong_is_refused(tmp_path: Path) -> None:
    # 24 x 6 patches are as many as 12 x 12.
    content = {"model": vit(img_size=(96, 24)).state_dict(), "args": Namespace(img_size=[96, 24])}
    with pytest.raises(InputError, match="states an input of 96 x 24 pixels; only square"):
        load_checkpoint(saved(content, tmp_path / "x.pth"))


def _mae(folder: Path) -> Path:
    return saved({"model": mae_encoder()}, folder / "encoder.pth")


def _after_mae(folder: Path) -> Path:
    args = Namespace(nb_classes=5, global_pool=False, finetune="/x/moco.pth")
    head = {"head.weight": torch.zeros(5, 128), "head.bias": torch.zeros(5)}
    return saved({"model": {**mae_encoder(), **head}, "args": args}, folder / "tuned.pth")


def _fork(folder: Path) -> Path:
    content = {"model": mae_encoder(), "optimizer": {}, "args": Namespace(mask_ratio=0.6)}
    return saved(content, folder / "fork.pth")


@pytest.mark.parametrize("write", [_mae, _after_mae, _fork])
def test_a_method_that_nothing_proves_goes_by_the_files_name(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = write(tmp_path)
    assert load_checkpoint(path).method == path.stem
    if write is _mae:
        assert {"heads", "pixels", "positions"} <= set(guessed(path))
        named = load_checkpoint(path, layout="mae")
        assert named.method == "MAE"
        assert named.content.guesses == ("heads",)


def test_pixels_may_be_stated_by_name_or_by_number(tmp_path: Path) -> None:
    path = saved(vit().state_dict(), tmp_path / "x.pth")
    assert load_checkpoint(path, pixels="inception").content.mean == HALF
    numbers = load_checkpoint(path, pixels="0.1,0.2,0.3,0.4,0.5,0.6").content
    assert (numbers.mean, numbers.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert "pixels" not in numbers.guesses
    for wrong in ("half", "0.5,0.5", "0,0,0,0,1,1", "nan,0,0,1,1,1", ""):
        with pytest.raises(InputError, match="needed is imagenet, inception, clip, or mean"):
            load_checkpoint(path, pixels=wrong)
    either = beit_or_v2(tmp_path)
    with pytest.raises(InputError, match="--pixels inception for BEiT or --pixels imagenet"):
        load_checkpoint(either)
    assert load_checkpoint(either, pixels="imagenet").content.guesses == ()


def test_what_was_assumed_once_stays_so_in_files_that_are_made_of_it(tmp_path: Path) -> None:
    loaded = load_checkpoint(saved(vit().state_dict(), tmp_path / "x.pth"))
    for name, layout in (
        ("a.pth", "timm"),
        ("b.safetensors", "safetensors"),
        ("c.pth", "openmmlab"),
    ):
        export(loaded, layout, tmp_path / name)
        assert guessed(tmp_path / name) == loaded.content.guesses
    own = tmp_path / "own.pt"
    save_checkpoint(own, loaded.backbone(), loaded.arch, method="x", provenance={}, start=loaded)
    assert guessed(own) == loaded.content.guesses
    with pytest.raises(InputError, match="it was so when the file was made"):
        load_checkpoint(own).refuse_guesses(32)


def test_strict_lists_what_would_be_assumed_and_what_states_it(tmp_path: Path) -> None:
    loaded = load_checkpoint(saved(vit().state_dict(), tmp_path / "x.pth"))
    with pytest.raises(InputError) as caught:
        loaded.refuse_guesses(64)
    words = str(caught.value)
    for part in ("2 heads", "--arch heads=N", "--pixels", "norm_eps", "positions", "--format"):
        assert part in words
    assert len(words.splitlines()) == 1
    with pytest.raises(InputError) as caught:
        loaded.refuse_guesses(32)
    assert "positions" not in str(caught.value)
    # What states everything passes.
    load_checkpoint(hub_folder(tmp_path / "hub")).refuse_guesses(64)
    load_checkpoint("random:vit_demo_patch4_32").refuse_guesses(64)

"""`micl-bench show layers`: the whole table of a full-size config, and one line for each mistake."""

import re
from pathlib import Path

import pytest
from support import REPOSITORY

from micl_bench.cli import app as cli
from micl_bench.runtime.errors import InputError

pytest.importorskip("mmseg")

GOLDEN = REPOSITORY / "tests" / "golden" / "ade20k_upernet_vit_b16_layers.txt"
FULL = REPOSITORY / "downstream" / "ade20k_upernet_vit_b16.py"
EMBEDDED = REPOSITORY / "downstream" / "embedded_upernet.py"


def show(*words: object) -> None:
    cli.invoke(["show", "layers", *map(str, words)])


def test_the_table_of_vit_b_under_upernet_is_the_one_written_down(
    capfd: pytest.CaptureFixture[str],
) -> None:
    show(FULL)
    shown = capfd.readouterr()
    assert shown.out == GOLDEN.read_text()
    assert shown.err == ""


def test_overrides_reach_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    show(EMBEDDED, "--set", "optim_wrapper.paramwise_cfg={'layer_decay':0.5}")
    lines = capsys.readouterr().out.splitlines()[2:]
    rows = {name: values for name, *values in map(str.split, lines)}
    # Four blocks, the stem below them. The config's rate is 2e-3, and half of that for its ViT.
    assert rows["backbone.vit.blocks.3.attn.qkv.weight"] == ["0.25", "0.0005", "0.05"]
    assert rows["backbone.vit.pos_embed"] == ["0.015625", "3.125e-05", "0"]
    assert rows["decode_head.conv_seg.weight"] == ["1", "0.002", "0.05"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("optim_wrapper.constructor=DefaultOptimWrapperConstructor", "MiCLViTConstructor"),
        ("optim_wrapper.paramwise_cfg={'decay_rate':0.65}", "paramwise_cfg has decay_rate"),
        ("optim_wrapper.paramwise_cfg={'layer_decay':7}", "layer_decay is 7"),
        ("model.backbone.checkpoint=no.pt", "no checkpoint file at no.pt"),
        ("model.decode_head.type=NoHead", "cannot be built: a key is missing: 'NoHead is not in"),
    ],
)
def test_a_mistake_is_one_line(setting: str, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        show(EMBEDDED, "--set", setting)
    assert "\n" not in str(caught.value)


def test_no_such_config(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no recipe file at"):
        show(tmp_path / "no.py")

"""`micl-bench show` of a network on images: pictures of any checkpoint, one line for each mistake."""

import sys
from pathlib import Path

import pytest
from support import REPOSITORY

from micl_bench.cli import app as cli

EMBEDDED = REPOSITORY / "pretrain" / "embedded.py"
HEADS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


def show(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["micl-bench", "show", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.parametrize(
    ("command", "kind", "words"),
    [
        ("attention", "png", "Attention of [CLS]"),
        ("attention", "svg", "single heads (of 4)"),
        ("patches", "pdf", "Share of the variance"),
        ("features", "png", "t-SNE of 40 images"),
        ("similarity", "png", "masked views of 40 images, 2 views of each"),
    ],
)
def test_equal_calls_give_equal_pictures(
    few_digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    kind: str,
    words: str,
) -> None:
    own = {"similarity": ["--recipe", EMBEDDED], "features": ["--perplexity", "5"]}.get(command, [])
    outs = [tmp_path / f"{turn}.{kind}" for turn in (1, 2)]
    for out in outs:
        code = show(
            monkeypatch,
            *(command, "--checkpoint", "random:vit_demo_patch4_32"),
            *("--images", few_digits / "val", "--out", out, *own),
        )
        assert code == 0
    printed = capsys.readouterr().out
    assert words in printed
    assert f"{command}: {outs[0]}" in printed
    assert outs[0].read_bytes().startswith(HEADS[kind])
    assert outs[0].read_bytes() == outs[1].read_bytes()


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("attention", ["--out", "a.jpg"], "must end in one of"),
        ("attention", ["--images", "missing"], "missing"),
        ("attention", ["--img-size", "30"], "multiple of patch_size"),
        ("patches", ["--checkpoint", "nothing.pt"], "nothing.pt"),
        ("features", ["--perplexity", "40"], "below 40"),
        ("similarity", ["--recipe", "missing.py"], "no recipe file"),
        ("similarity", ["--recipe", EMBEDDED, "--set", "objective.views=3"], "views"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    few_digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    options: list[object],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"--checkpoint": "random:vit_demo_patch4_32", "--images": few_digits / "val"}
    given |= {"--out": "a.png"}
    code = show(monkeypatch, command, *[w for pair in given.items() for w in pair], *options)
    assert code == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert len([x for x in shown.err.strip().splitlines() if x.startswith("error")]) == 1
    assert list(tmp_path.iterdir()) == []

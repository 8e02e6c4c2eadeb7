"""`micl-bench show` of records: every picture of a report is a command, and says what it left out."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from micl_bench.cli import app as cli
from micl_bench.records.result import write_result

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from pretrainings import Trainings
from synthetic_results import write_demo


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo's records, and an ablation of the mask ratio."""
    folder = tmp_path_factory.mktemp("store")
    write_demo(folder / "demo")
    made = Trainings()
    for ratio, top1 in ((0.5, 80.0), (0.75, 85.0)):
        made.add(top1, mask_ratio=ratio, hours=ratio)
    for record in made.records:
        write_result(record, folder / "ablation")
    return folder


def show(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["micl-bench", "show", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cost", "--results", "ablation"], "Pareto fronts"),
        (["cost", "--results", "ablation", "--x", "epochs"], "Pareto fronts"),
        (["cost", "--x", "epochs"], "arXiv:2111.06377"),
        (["training", "--results", "demo"], "weights at step 0"),
        (["robustness", "--results", "demo"], "above the line"),
        (["ablation", "--results", "ablation", "--axis", "mask-ratio"], "mask ratio alone"),
        (["segmentation", "--results", "demo"], "the true classes"),
        (["detection", "--results", "demo/coco"], "the true objects"),
        (["detection", "--results", "demo/coco", "--results", "demo/ade20k"], "the true objects"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_each_picture_is_a_command(
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(store)
    out = tmp_path / "a.png"
    assert show(monkeypatch, *words, "--out", out) == 0
    assert said in capsys.readouterr().out
    with Image.open(out) as image:
        # A page's width at 200 pixels an inch, and white round it.
        assert 400 < image.width < 1500
        assert image.convert("RGB").getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["training", "--results", "nowhere"], "nowhere"),
        (["training", "--results", "ablation"], "names no such file"),
        (
            ["segmentation", "--results", "ablation"],
            "no record names segmentation pictures; give records that do",
        ),
        (["robustness", "--results", "ablation"], "clean and shifted"),
        (["ablation", "--results", "ablation", "--axis", "views"], "differ in views alone"),
        (["ablation", "--results", "ablation", "--axis", "size"], "allowed: mask-ratio"),
        (["cost", "--results", "demo"], "no two numbers of one protocol"),
        (["cost", "--x", "hours"], "allowed: device-hours, epochs"),
        (["cost", "--no-published"], "needs --results"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_drawn_is_one_line(
    store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(store)
    out = tmp_path / "a.png"
    assert show(monkeypatch, *words, "--out", out) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not out.exists()

"""`micl-bench show` of networks and of records: every picture is a command, a mistake one line."""

import sys
from pathlib import Path

import pytest
from PIL import Image
from support import REPOSITORY, exit_code

from micl_bench.records.result import write_result

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from pretrainings import Trainings
from synthetic_results import write_demo

EMBEDDED = REPOSITORY / "pretrain" / "embedded.py"
HEADS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


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
    capsys: pytest.CaptureFixture[str],
    command: str,
    kind: str,
    words: str,
) -> None:
    own = {"similarity": ["--recipe", EMBEDDED], "features": ["--perplexity", "5"]}.get(command, [])
    outs = [tmp_path / f"{turn}.{kind}" for turn in (1, 2)]
    for out in outs:
        given = ("--checkpoint", "random:vit_demo_patch4_32", "--images", few_digits / "val")
        assert exit_code("show", command, *given, "--out", out, *own) == 0
    printed = capsys.readouterr().out
    assert words in printed
    assert f"{command}: {outs[0]}" in printed
    assert outs[0].read_bytes().startswith(HEADS[kind])
    assert outs[0].read_bytes() == outs[1].read_bytes()


ONE_VIEW = """
import dataclasses
from micl_bench.objectives.micl import MiCL
from micl_bench.runtime.config import load_recipe
from micl_bench.runtime.shipped import recipe_file
from micl_bench.engine.pretraining.recipe import PretrainRecipe

class OneView(MiCL):
    name = "OneView"

    class Config(MiCL.Config):
        pass

    def wants(self, arch):
        return dataclasses.replace(super().wants(arch), num_views=1)

shipped = load_recipe(recipe_file("embedded"), PretrainRecipe)
recipe = dataclasses.replace(shipped, objective=OneView.Config(mask_ratio=0.5))
"""


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
        ("similarity", ["--recipe", "one_view.py"], "OneView sees one view of an image"),
    ],
    ids=str,
)
def test_a_mistake_about_a_network_is_one_line_and_leaves_nothing(
    few_digits: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    options: list[object],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("one_view.py").write_text(ONE_VIEW)
    given = {"--checkpoint": "random:vit_demo_patch4_32", "--images": few_digits / "val"}
    given |= {"--out": "a.png"}
    code = exit_code("show", command, *[w for pair in given.items() for w in pair], *options)
    assert code == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert len([x for x in shown.err.strip().splitlines() if x.startswith("error")]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["one_view.py"]


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
    assert exit_code("show", *words, "--out", out) == 0
    assert said in capsys.readouterr().out
    with Image.open(out) as image:
        # A page's width at 200 pixels per inch, and white around it.
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
    assert exit_code("show", *words, "--out", out) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not out.exists()

"""A folder of plug-ins, outside of the package, in every command that has to do with their kinds."""

import json
import shutil
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import Run, good

from micl_bench.checkpoints import load_checkpoint

ARCH = "vit_demo_patch4_32"
FORMAT = '''
"""Files of Nobody: timm's names behind `nobody.`."""

from micl_bench.checkpoints import timm


def recognise(content):
    return "nobody" in content


def convert(content, *, arch, branch):
    inner = {name.removeprefix("nobody."): tensor for name, tensor in content["nobody"].items()}
    return timm.convert(inner, arch=arch, branch=branch)
'''
SOURCE = '''
"""Images of a split in one NumPy file."""

import numpy as np
from PIL import Image

from micl_bench.records.result import DataSet
from micl_bench.runtime.files import digest_file


class Split:
    def __init__(self, path):
        found = np.load(path, allow_pickle=False)
        self.pixels, self.labels = found["pixels"], found["labels"]
        self.names, self.classes = found["names"].tolist(), found["classes"].tolist()
        self.path = path

    def image(self, index):
        return Image.fromarray(self.pixels[index])

    def describe(self):
        return DataSet(
            name=self.path.parent.name,
            split=self.path.stem,
            images=len(self.names),
            digest=digest_file(self.path),
        )


def open_images(place):
    return Split(place.with_suffix(".npz"))
'''
SET = '''
"""Upside-down digits."""

from pathlib import PurePosixPath

from micl_bench.robustness import CleanSet, RobustnessSet

SET = RobustnessSet(
    title="Upside-down",
    folder=PurePosixPath("upside-down"),
    clean=CleanSet(folder=PurePosixPath("digits/val")),
    description="The held-out digits, turned by half a circle",
)
'''
TASK = '''
"""How far apart the mean features of training and held-out images lie, and how long they are."""

from micl_bench.tasks import Metric, Task

TASK = Task(
    name="gap",
    title="Feature gap",
    metrics=(
        Metric(name="apart", title="gap of means", unit="mm", better="lower"),
        Metric(name="length", title="mean length", unit="cm", better="higher"),
    ),
)


def run(request):
    train, val = (request.features(split).tensor("cls_1") for split in ("train", "val"))
    apart = (train.mean(0) - val.mean(0)).norm().item()
    return request.measure(TASK, {"apart": apart, "length": val.norm(dim=1).mean().item()})
'''
OBJECTIVE = '''
"""MiCL under another name."""

import dataclasses

from micl_bench.objectives.micl import MiCL


class Other(MiCL):
    name = "Other"

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Config(MiCL.Config):
        """As MiCL's."""


OBJECTIVE = Other
'''
RECIPE = """
from micl_bench.data.pixels import Pixels
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.objectives.other import Other
from micl_bench.runs.optim import OptimConfig

recipe = PretrainRecipe(
    arch="vit_demo_patch4_32", objective=Other.Config(mask_ratio=0.5), optim=OptimConfig(base_lr=2e-3),
    pixels=Pixels(img_size=32, crop_pct=1.0), batch_size=16, epochs=1, knn_every_epochs=0,
)
"""
SUITE = """
data: digits
checkpoints:
  Other: {recipe: recipe.py, data: digits}
  random weights: random:vit_demo_patch4_32
entries:
  - {name: gap, task: gap, overrides: [pixels.img_size=32, pixels.crop_pct=1.0]}
  - {name: linear, task: linear, recipe: embedded_linear, overrides: [probe.epochs=1]}
  - name: shifted
    task: robustness
    recipe: embedded_robustness
    overrides: ["sets=[turned]"]
    data: .
    of: [linear]
"""


def write(folder: Path, **texts: str) -> None:
    """Files of a plug-in folder, `kind_name="text"`."""
    for place, text in texts.items():
        kind, _, name = place.partition("_")
        (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / kind / f"{name}.py").write_text(textwrap.dedent(text).lstrip())


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mine"
    write(folder, checkpoints_nobody=FORMAT, sources_numpy=SOURCE, robustness_turned=SET)
    write(folder, tasks_gap=TASK, objectives_other=OBJECTIVE)
    monkeypatch.setenv("MICL_BENCH_PLUGINS", str(folder))
    return folder


def record(folder: Path) -> dict[str, Any]:
    (found,) = folder.glob("*-*.json")
    content: dict[str, Any] = json.loads(found.read_text())
    return content


def packed_as_numpy(folder: Path, out: Path) -> None:
    """A split of 32 x 32 images as the source above reads it; held-out classes in another order."""
    paths = sorted(folder.glob("*/*"))
    classes = sorted({path.parent.name for path in paths}, reverse=folder.name == "val")
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        out,
        pixels=np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths]),
        labels=[classes.index(path.parent.name) for path in paths],
        names=[f"{path.parent.name}/{path.name}" for path in paths],
        classes=classes,
    )


def metrics(content: dict[str, Any]) -> dict[str, float]:
    return {
        name: value["value"] if isinstance(value, dict) else value
        for name, value in content["metrics"].items()
    }


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("formats", "nobody", "Files of Nobody: timm's names behind `nobody.`."),
        ("sources", "numpy", "Images of a split in one NumPy file."),
        ("robustness", "turned", "Upside-down digits."),
        ("objectives", "other", "MiCL under another name."),
        ("tasks", "gap", "How far apart the mean features of training and held-out images lie,"),
    ],
)
def test_listings_show_plugins_and_their_places(
    micl_bench: Run, plugins: Path, kind: str, name: str, words: str
) -> None:
    listed = micl_bench("list", kind)
    assert listed.returncode == 0, listed.stderr
    text = " ".join(listed.stdout.split())
    assert f"{name} {words}" in text
    assert f"(from {plugins}/" in text
    if kind == "tasks":
        assert "Metrics: gap of means [mm] ↓, mean length [cm] ↑." in text


@pytest.mark.long
def test_a_format_of_others_is_recognised(micl_bench: Run, plugins: Path, tmp_path: Path) -> None:
    state = load_checkpoint(f"random:{ARCH}").content.state
    path = tmp_path / "theirs.pt"
    torch.save({"nobody": {f"nobody.{name}": value for name, value in state.items()}}, path)
    shown = micl_bench("inspect", path)
    assert shown.returncode == 0, shown.stderr
    assert "nobody" in shown.stdout
    (plugins / "checkpoints" / "nobody.py").write_text("import nowhere\n")
    gone = micl_bench("inspect", path)
    assert gone.returncode == 2
    assert f"warning: the plug-in {plugins}/checkpoints/nobody.py cannot be imported" in gone.stderr


@pytest.mark.long
def test_a_source_of_others_gives_the_same_number_as_its_folder(
    micl_bench: Run, plugins: Path, few_digits: Path, tmp_path: Path
) -> None:
    for split in ("train", "val"):
        packed_as_numpy(few_digits / split, tmp_path / "set" / f"{split}.npz")
    options = ("--checkpoint", f"random:{ARCH}", "--set", "pixels.img_size=32", "--recipe")
    for task, more in (
        ("knn", ("embedded_knn", "--set", "k=5")),
        ("linear", ("embedded_linear", "--set", "probe.epochs=1")),
    ):
        found = []
        for data, out in ((few_digits, "folder"), ("numpy:set", "source")):
            place = tmp_path / task / out
            done = micl_bench("eval", task, *options, *more, "--data", data, "--out", place)
            assert done.returncode == 0, done.stderr
            found.append(record(place))
        assert metrics(found[0]) == metrics(found[1])
        assert (found[1]["data"]["name"], found[1]["data"]["split"]) == ("set", "val")
        assert found[0]["data"]["digest"] != found[1]["data"]["digest"]
    again = micl_bench(
        *("eval", "knn", *options, "embedded_knn", "--set", "k=5", "--data", "numpy:set"),
        *("--out", tmp_path / "knn" / "source"),
    )
    assert again.returncode == 0, again.stderr
    pretrained = micl_bench(
        *("pretrain", "embedded", "--data", "numpy:set", "--out", "micl", "--set", "epochs=1"),
        *("--set", "batch_size=40", "--set", "knn_k=5"),
    )
    assert pretrained.returncode == 0, pretrained.stderr


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nothing:set", "no image source is called 'nothing'; known: folder, numpy, packed"),
        ("numpy:nowhere", "numpy:nowhere/train cannot be opened by the image source numpy"),
    ],
)
def test_a_source_that_is_not_there_is_one_line(
    micl_bench: Run, plugins: Path, data: str, message: str
) -> None:
    done = micl_bench("eval", "knn", "--checkpoint", f"random:{ARCH}", "--data", data, "--out", "o")
    assert done.returncode == 2
    assert message in done.stderr


def with_turned_images(few_digits: Path, data: Path) -> None:
    """The digits, and beside them their held-out ones upside down."""
    shutil.copytree(few_digits, data / "digits")
    for path in sorted((data / "digits" / "val").glob("*/*")):
        turned = data / "upside-down" / path.parent.name / path.name
        turned.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).rotate(180).save(turned)


@pytest.mark.long
def test_a_suite_of_their_task_objective_and_shifted_set_is_reported_and_explained(
    micl_bench: Run, plugins: Path, few_digits: Path, tmp_path: Path
) -> None:
    with_turned_images(few_digits, tmp_path)
    (tmp_path / "recipe.py").write_text(RECIPE)
    (tmp_path / "suite.yaml").write_text(SUITE)
    done = micl_bench("suite", "run", "suite.yaml", "--out", "store")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {
        (one["task"], one["data"]["name"], one["method"]): one
        for one in (json.loads(path.read_text()) for path in (tmp_path / "store").rglob("*-*.json"))
    }
    gaps = {method: found["gap", "digits", method] for method in ("Other", "random weights")}
    assert gaps["Other"]["checkpoint"]["origin"][0]["settings"]["objective"]["method"] == "Other"
    assert gaps["Other"]["metrics"]["apart"]["unit"] == "mm"
    assert len(gaps["Other"]["details"]["inputs"]["task"]) == 64
    assert "task" not in found["linear", "digits", "Other"]["details"]["inputs"]
    assert found["pretrain", "digits", "Other"]
    assert {found["robustness", "Upside-down", method]["about"]["title"] for method in gaps}

    done = good(micl_bench("report", "--results", "store", "--out", "report"))
    latex = (tmp_path / "report" / "tables" / "gap-digits.tex").read_text()
    assert "Feature gap: digits" in latex
    assert "gap of means {[}mm{]} & mean length {[}cm{]}" in latex
    for metric, best in (("apart", min), ("length", max)):
        values = [one["metrics"][metric]["value"] for one in gaps.values()]
        marked = best(values)
        assert f"\\textbf{{{marked:.4g}}}" in latex
        assert all(f"\\textbf{{{value:.4g}}}" not in latex for value in values if value != marked)
    turned = (tmp_path / "report" / "tables" / "robustness-other-upside-down.md").read_text()
    assert "Upside-down: top-1" in turned
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Feature gap: digits" in page

    (explained,) = (
        path
        for path in (tmp_path / "store").rglob("gap-*.json")
        if json.loads(path.read_text()) == gaps["Other"]
    )
    done = good(micl_bench("explain", explained, "--results", "store"))
    assert "gap of means [mm]" in done.stdout
    assert "1. pretrain  Other, seed 42" in done.stdout

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
from support import Run

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
    monkeypatch.setenv("MICL_BENCH_PLUGINS", str(folder))
    return folder


def record(folder: Path) -> dict[str, Any]:
    (found,) = folder.glob("*.json")
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
    ],
)
def test_listings_show_plugins_and_their_places(
    micl_bench: Run, plugins: Path, kind: str, name: str, words: str
) -> None:
    listed = micl_bench("list", kind)
    assert listed.returncode == 0, listed.stderr
    text = " ".join(listed.stdout.split())
    assert f"{name} {words} (from {plugins}/" in text


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


@pytest.mark.long
def test_a_shifted_set_of_others_is_measured(
    micl_bench: Run, plugins: Path, few_digits: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(few_digits, data / "digits")
    for path in sorted((data / "digits" / "val").glob("*/*")):
        turned = data / "upside-down" / path.parent.name / path.name
        turned.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).rotate(180).save(turned)
    done = micl_bench(
        *("eval", "linear", "--checkpoint", f"random:{ARCH}", "--recipe", "embedded_linear"),
        *("--data", data / "digits", "--out", "linear", "--set", "probe.epochs=1"),
    )
    assert done.returncode == 0, done.stderr
    done = micl_bench(
        *("eval", "robustness", "--checkpoint", "linear/classifier.pt", "--recipe"),
        *("embedded_robustness", "--set", "sets=[turned]", "--data", data, "--out", "turned"),
    )
    assert done.returncode == 0, done.stderr
    found = record(tmp_path / "turned")
    assert found["data"]["name"] == "Upside-down"
    assert {"top1", "drop"} <= set(found["metrics"])

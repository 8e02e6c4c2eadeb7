"""Configs as a user of mmsegmentation or mmdetection writes them, with nothing of ours but the backbone.

They stand in docs/dense.md. Here they get few and small images, run by mmengine alone and by `eval`.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config, utils
from support import REPOSITORY, Run, values_in

from micl_bench.openmmlab import find_configs
from micl_bench.openmmlab.configs import resolve
from micl_bench.runtime.errors import InputError

DEMO = "random:vit_demo_patch4_32"
OWN = Path(__file__).parent / "user_configs"
PAGE = (REPOSITORY / "docs" / "dense.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)

# All that a training script of mmengine's consists of; the first line is for `mmseg::` alone.
TRAIN = """import micl_bench.openmmlab
from mmengine.config import Config
from mmengine.runner import Runner

config = Config.fromfile("segmenter.py")
config.work_dir = "work"
Runner.from_cfg(config).train()
"""


@pytest.fixture
def folder(tmp_path: Path, embedded: Path) -> Path:
    """A user's folder: own configs, and data where the libraries' configs expect them."""
    for file in OWN.glob("*.py"):
        shutil.copy(file, tmp_path)
    (tmp_path / "data" / "ade").mkdir(parents=True)
    (tmp_path / "data/ade/ADEChallengeData2016").symlink_to(embedded / "embedded-ade20k")
    (tmp_path / "data/coco").symlink_to(embedded / "embedded-coco")
    return tmp_path


def test_the_page_shows_what_is_run_here() -> None:
    ours = [(OWN / f"{name}.py").read_text(encoding="utf-8") for name in ("segmenter", "detector")]
    shown = [block for block in PYTHON if "_base_" in block or "Runner" in block]
    assert shown == [*ours, TRAIN]


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "segmenter",
            "learning rate x 0.0237573, weight decay 0.05: backbone.vit.patch_embed.proj",
        ),
        ("detector", "learning rate x 0.0096889, weight decay 0.1: backbone.vit.patch_embed.proj"),
    ],
)
def test_mmengine_alone_trains_them(folder: Path, name: str, said: str) -> None:
    code = TRAIN.replace("segmenter.py", f"{name}_small.py")
    code = code.replace('"work"', '"work"\nconfig.log_level = "DEBUG"')
    if name == "detector":
        code = code.replace("import micl_bench.openmmlab\n", "")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (scalars,) = folder.glob("work/*/vis_data/scalars.json")
    rows = [json.loads(line) for line in scalars.read_text(encoding="utf-8").splitlines()]
    assert any(row.get("loss", 0) > 0 for row in rows)
    assert "Iter(val) [4/4]" in done.stdout or "Epoch(val) [0][4/4]" in done.stdout
    # The decay of ViT-S's 12 blocks, to the 13th power at the patches.
    assert said in done.stdout


@pytest.mark.long
@pytest.mark.parametrize(
    ("task", "name", "data", "metrics"),
    [
        ("ade20k", "segmenter", "data/ade/ADEChallengeData2016", {"mIoU", "mAcc", "aAcc"}),
        ("coco", "detector", "data/coco", {"box_AP", "box_AP50", "box_AP75"}),
    ],
)
def test_eval_makes_records_of_them(
    micl_bench: Run, folder: Path, task: str, name: str, data: str, metrics: set[str]
) -> None:
    """For a checkpoint of another width than the config was written for."""
    done = micl_bench(
        *("eval", task, "--recipe", f"{name}_small.py", "--data", data, "--out", "out"),
        *("--checkpoint", DEMO),
        *(["--set", "model.backbone.img_size=32"] if name == "segmenter" else []),
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    (record,) = (folder / "out").glob(f"{task}-*.json")
    found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    assert set(values_in(found)) == metrics


@pytest.mark.parametrize(
    ("name", "part"), [("segmenter", "train_dataloader has data_root 'data/ade/"), ("detector", "")]
)
def test_a_data_root_that_reaches_no_data_set_is_no_data_root(
    folder: Path, embedded: Path, name: str, part: str
) -> None:
    """mmengine joins paths in the base config; this one would train on what lies there."""
    config = folder / "top.py"
    config.write_text(
        f'_base_ = "{folder}/{name}_small.py"\ndata_root = "data/own"\n', encoding="utf-8"
    )
    found = {"checkpoint": DEMO, "data": embedded, "seed": None, "overrides": []}
    with pytest.raises(InputError, match="does not begin with the config's data_root") as error:
        resolve(config, **found)
    assert part in str(error.value)
    if name == "detector":
        annotations = "train_dataloader = dict(dataset=dict(data_root=data_root))\n"
        config.write_text(config.read_text() + annotations + annotations.replace("train", "val"))
        with pytest.raises(InputError, match="val_evaluator has ann_file 'data/coco/annotations"):
            resolve(config, **found)


def test_configs_of_the_fork_are_found_by_the_librarys_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mmengine looks for `mmsegmentation`; the fork that is installed has another name."""
    config = Config.fromfile(folder / "segmenter.py")
    assert config.model.decode_head.type == "SegformerHead"
    assert config.model.backbone.to_dict() == {
        "type": "MiCLViT",
        "checkpoint": "work/micl_vit_s16/backbone.pt",
        "img_size": 512,
    }
    monkeypatch.setitem(utils.MODULE2PACKAGE, "mmseg", "mmsegmentation")
    with pytest.raises(ModuleNotFoundError, match="mmsegmentation is not installed"):
        Config.fromfile(folder / "segmenter.py")
    find_configs()
    assert Config.fromfile(folder / "segmenter.py").model.backbone.type == "MiCLViT"


def test_upstream_packages_keep_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(utils.MODULE2PACKAGE, "mmseg", "mmsegmentation")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0")
    find_configs()
    assert utils.MODULE2PACKAGE["mmseg"] == "mmsegmentation"

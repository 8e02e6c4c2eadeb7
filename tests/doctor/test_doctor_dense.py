"""ADE20K and COCO as `doctor --data` sees them: by what `eval` checks, against the config of each."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("mmseg")
pytest.importorskip("mmdet")

from micl_bench.doctor import check_data


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("embedded-ade20k", "240 and 60 images to train on and measure; its truth has mIoU 100"),
        ("embedded-coco", "240 and 60 images to train on and measure; its truth has box_AP 100"),
    ],
)
def test_the_embedded_scenes_are_sound(embedded: Path, name: str, words: str) -> None:
    named, checked = check_data(embedded / name)
    assert (named.level, checked.level) == ("ok", "ok")
    assert words in checked.found


@pytest.mark.parametrize("name", ["ade20k", "coco"])
def test_other_data_in_a_releases_layout_are_held_against_its_config(
    embedded: Path, tmp_path: Path, name: str
) -> None:
    data = Path(shutil.copytree(embedded / f"embedded-{name}", tmp_path / "own"))
    if name == "ade20k":
        mask = data / "annotations" / "validation" / "ADE_val_00000001.png"
        Image.new("L", (96, 96), 151).save(mask)
    found = [finding for finding in check_data(tmp_path) if finding.level == "problem"]
    assert {finding.subject for finding in found} == {str(data)}
    words = {"ade20k": "label 151 is above 150", "coco": "has no categories 'person'"}[name]
    assert any(words in finding.found for finding in found)
    assert all("for data of your own, --recipe CONFIG" in finding.fix for finding in found)


def test_the_full_release_is_another_data_set(tmp_path: Path) -> None:
    (tmp_path / "images" / "ADE" / "training").mkdir(parents=True)
    (one,) = check_data(tmp_path)
    assert "the full release of ADE20K" in one.found
    assert "ADEChallengeData2016" in one.fix


def test_without_openmmlab_it_says_what_is_not_checked(embedded: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "sys.modules['mmengine'] = None\n"
        "from micl_bench.doctor import check_data\n"
        "print([(one.level, one.fix) for one in check_data(Path(sys.argv[1]))][1])"
    )
    command = [sys.executable, "-c", code, str(embedded / "embedded-coco")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "('warning', \"pip install 'micl-bench[openmmlab]'\")\n"

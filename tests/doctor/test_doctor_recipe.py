"""`doctor --recipe`: a folder against the config that it is for, by the checks of the run itself."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("mmseg")
pytest.importorskip("mmdet")

from support import REPOSITORY, Run

from micl_bench.doctor import check_for_recipe

UPERNET, MASK_RCNN = (
    REPOSITORY / "downstream" / f"embedded_{name}.py" for name in ("upernet", "mask_rcnn")
)


@pytest.fixture
def own_coco(embedded: Path, tmp_path: Path) -> Path:
    """A folder of one's own in COCO's layout, of no release."""
    return Path(shutil.copytree(embedded / "embedded-coco", tmp_path / "own"))


def test_own_data_fit_their_config_and_no_release(own_coco: Path) -> None:
    (one,) = check_for_recipe(own_coco, MASK_RCNN)
    assert one.level == "ok"
    assert "240 and 60 images to train on and measure" in one.found
    assert "its truth has box_AP 100" in one.found


def test_what_would_fail_the_run_is_a_problem(own_coco: Path) -> None:
    file = own_coco / "annotations/instances_val2017.json"
    content = json.loads(file.read_text())
    content["categories"][4]["name"] = "four"
    file.write_text(json.dumps(content))
    (one,) = check_for_recipe(own_coco, MASK_RCNN)
    assert one.level == "problem"
    assert "has no category 'digit_4'" in one.found
    assert one.fix


@pytest.mark.parametrize("recipe", ["embedded_upernet.py", "embedded_knn.py", "nowhere.py"])
def test_a_config_that_does_not_fit_the_folder_is_a_problem(own_coco: Path, recipe: str) -> None:
    (one,) = check_for_recipe(own_coco, REPOSITORY / "downstream" / recipe)
    assert one.level == "problem"
    assert one.fix


def test_the_command_checks_against_the_config_alone(
    micl_bench: Run, embedded: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(embedded / "embedded-ade20k", tmp_path / "own"))
    (data / "annotations/validation/ADE_val_00000001.png").unlink()
    done = micl_bench("doctor", "--data", data, "--recipe", UPERNET, "--json", "found.json")
    assert done.returncode == 2
    assert "ADE_val_00000001.png (no such file)" in done.stdout
    rows = json.loads((tmp_path / "found.json").read_text())["findings"]
    assert [row["level"] for row in rows if row["subject"] == str(data)] == ["problem"]
    alone = micl_bench("doctor", "--recipe", UPERNET)
    assert alone.returncode == 2
    assert "give the folder too" in alone.stderr

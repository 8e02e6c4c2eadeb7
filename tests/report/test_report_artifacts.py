from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_results import recorded, result

from micl_bench.records.result import write_result
from micl_bench.report import build_report
from micl_bench.report.compare.artefact_files import artifact_path, load_arrays
from micl_bench.report.figures.sample_images import load_scenes, load_views, masked_views
from micl_bench.runtime.errors import InputError


@pytest.mark.parametrize("path", ["../secret.npz", "/etc/hostname", "a/../../b", "C:\\x", "..\\x"])
def test_a_path_out_of_the_folder_is_refused(
    tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret.npz").touch()
    record = result(task="pretrain", artifacts={"views": path})
    write_result(record, tmp_path / "results")
    page = build_report(tmp_path / "results", tmp_path / "report").read_text(encoding="utf-8")
    told = capsys.readouterr().err
    assert "leads out of the record" in told
    assert "leads out of the record" in page
    assert str(tmp_path) not in page


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "views.npz").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="out of the record's folder"):
        artifact_path(
            *recorded([result(artifacts={"views": "views.npz"})], tmp_path / "results"), "views"
        )


def test_no_artefact_is_none(tmp_path: Path) -> None:
    for record in recorded([result(), result(artifacts={"views": "gone.npz"})], tmp_path):
        assert artifact_path(record, "views") is None


def _save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_shapes_follow_the_letters_of_the_names(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.npz", box_D4=np.zeros((3, 4)), label_D=np.zeros(3), classes=["a"])
    arrays = load_arrays(path, ["box_D4", "label_D", "classes"])
    assert arrays["box_D4"].shape == (3, 4)
    for box in (np.zeros((3, 5)), np.zeros((2, 4)), np.zeros(3)):
        path = _save(tmp_path / "b.npz", label_D=np.zeros(3), box_D4=box)
        with pytest.raises(InputError, match="box_D4 has shape"):
            load_arrays(path, ["label_D", "box_D4"])


def test_damaged_pickled_and_incomplete_files_are_named(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(b"PK\x03\x04 cut")
    pickled = _save(tmp_path / "pickled.npz", a=np.array([{}], dtype=object))
    incomplete = _save(tmp_path / "incomplete.npz", b=np.zeros(1))
    for path in (damaged, pickled, incomplete):
        with pytest.raises(InputError, match=path.name):
            load_arrays(path, ["a"])


def test_indices_that_point_nowhere_are_refused(tmp_path: Path) -> None:
    images = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    views = {"images_NHWC": images, "patch_size": 8}
    with pytest.raises(InputError, match="keep_NVK runs from 0 to 4"):
        load_views(_save(tmp_path / "v.npz", **views, keep_NVK=np.array([[[0, 4]]])))
    views["patch_size"] = 5
    with pytest.raises(InputError, match="do not tile"):
        load_views(_save(tmp_path / "v.npz", **views, keep_NVK=np.array([[[0, 1]]])))
    scenes = {"images_NHWC": images, "classes": np.array(["a", "b"])}
    good, bad = np.ones((1, 16, 16), dtype=np.uint8), np.full((1, 16, 16), 2, dtype=np.uint8)
    for truth, predicted, name in ((bad, good, "truth"), (good, bad, "predicted")):
        path = _save(tmp_path / "s.npz", **scenes, truth_NHW=truth, predicted_NHW=predicted)
        with pytest.raises(InputError, match=name):
            load_scenes(path)


def test_a_view_shows_its_patches_and_hides_the_rest(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 200, (1, 16, 16, 3), dtype=np.uint8)
    path = _save(tmp_path / "v.npz", images_NHWC=images, patch_size=8, keep_NVK=np.array([[[1]]]))
    (axes,) = masked_views(load_views(path)).axes
    original, view = (np.asarray(image.get_array()) for image in axes.images)
    assert (original == images[0]).all()
    assert (view[:8, 8:] == images[0, :8, 8:]).all()
    assert (view[8:] == 205).all()
    assert (view[:8, :8] == 205).all()

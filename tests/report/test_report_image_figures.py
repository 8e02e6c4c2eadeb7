"""Pictures of artefacts: paths and files that are refused, drawn pixels, what stands abreast."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from synthetic_results import recorded, result

from micl_bench.records.result import Record, write_result
from micl_bench.report import build_report
from micl_bench.report.compare.artefact_files import artifact_path, load_arrays
from micl_bench.report.figures.feature_plots import FEATURES, SIMILARITY
from micl_bench.report.figures.galleries import KINDS, found_gallery
from micl_bench.report.figures.render import Found, rendered, save_picture
from micl_bench.report.figures.sample_images import VIEWS
from micl_bench.report.figures.token_maps import ATTENTION, PATCHES, shown_heads
from micl_bench.report.frame.selection import select
from micl_bench.runtime.errors import InputError

Arrays = dict[str, NDArray[Any]]
IMAGES = np.random.default_rng(0).integers(0, 200, (2, 16, 16, 3), dtype=np.uint8)
CLASSES = np.array(["a", "b"])


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def cell(figure: Figure, row: int, column: int, size: int = 16) -> NDArray[np.int64]:
    """The pixels of an image, next to which one pixel in twenty is white."""
    step = size + max(1, size // 20)
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    return canvas[row * step :, column * step :][:size, :size].astype(int)


def attention(heads: int = 12, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "images_NHWC": rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8),
        "attention_NJYX": rng.random((2, heads, 4, 4), dtype=np.float32) / 20,
        "query": np.array("[CLS]"),
    }


def similarities(low: float = -1.0) -> Arrays:
    arrays: Arrays = {"kappa": np.array(0.1), "images": np.array(9), "views": np.array(2)}
    for kind in ("cosine", "tsp"):
        arrays |= {
            f"{kind}_edges_E": np.linspace(low, 1, 5),
            f"{kind}_positive_B": np.array([0, 0, 1, 4]),
            f"{kind}_negative_B": np.array([3, 6, 0, 0]),
            f"{kind}_means": np.array([0.6, -0.4]),
        }
    return arrays


@pytest.mark.parametrize("path", ["../secret.npz", "/etc/hostname", "a/../../b", "C:\\x", "..\\x"])
def test_a_path_out_of_the_folder_is_refused(
    tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "secret.npz").touch()
    write_result(result(task="pretrain", artifacts={"views": path}), tmp_path / "results")
    page = build_report(tmp_path / "results", tmp_path / "report").read_text(encoding="utf-8")
    assert "leads out of the record" in capsys.readouterr().err
    assert "leads out of the record" in page
    assert str(tmp_path) not in page


def test_a_link_out_of_the_folder_is_refused_and_no_artefact_is_none(tmp_path: Path) -> None:
    def path_of(**artefacts: str) -> Path | None:
        record = Record.of(result(artifacts=artefacts), tmp_path / "results" / "r.json")
        return artifact_path(record, "views")

    (tmp_path / "secret").touch()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "views.npz").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="out of the record's folder"):
        path_of(views="views.npz")
    assert path_of() is None
    assert path_of(views="gone.npz") is None


def test_shapes_follow_the_letters_of_the_names(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", box_D4=np.zeros((3, 4)), label_D=np.zeros(3), classes=["a"])
    assert load_arrays(path, ["box_D4", "label_D", "classes"])["box_D4"].shape == (3, 4)
    for box in (np.zeros((3, 5)), np.zeros((2, 4)), np.zeros(3)):
        path = save(tmp_path / "b.npz", label_D=np.zeros(3), box_D4=box)
        with pytest.raises(InputError, match="box_D4 has shape"):
            load_arrays(path, ["label_D", "box_D4"])


LABELS = np.ones((1, 16, 16), dtype=np.uint8)
SEEN = {"images_NHWC": IMAGES[:1], "patch_size": np.array(8), "keep_NVK": np.array([[[1]]])}
WHOLE: dict[str, Arrays] = {
    "views": SEEN,
    "segmentation": {
        "images_NHWC": IMAGES[:1], "truth_NHW": LABELS, "predicted_NHW": LABELS, "classes": CLASSES,
    },
    "detection": {
        "images_NHWC": IMAGES[:1], "classes": CLASSES, "score_D": np.array([0.9]),
        **{f"{name}_D": np.array([0]) for name in ("image", "label")},
        **{f"truth_{name}_T": np.array([0]) for name in ("image", "label")},
        "box_D4": np.ones((1, 4)), "truth_box_T4": np.ones((1, 4)),
        "mask_DHW": LABELS, "truth_mask_THW": LABELS,
    },
    "attention": attention(),
    "features": {
        "places_N2": np.ones((1, 2)), "label_N": np.array([0]), "classes": CLASSES,
        "perplexity": np.array(1.0),
    },
    "similarity": similarities(),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "arrays", "words"),
    [
        ("views", {"keep_NVK": np.array([[[0, 4]]])}, "keep_NVK runs from 0 to 4"),
        ("views", {"names_V": np.array(["a", "b"])}, "names_V has shape"),
        ("views", {"names_V": np.array([1])}, "names_V is no list of names"),
        ("views", {"crops_NVHWC": np.ones((1, 2, 16, 16, 3), np.uint8)}, "crops_NVHWC has shape"),
        ("views", {"crops_NVHWC": np.ones((1, 1, 16, 16, 3))}, "crops_NVHWC is no array of colour"),
        ("views", {"patch_size": np.array(5)}, "do not tile"),
        ("views", {"patch_size": np.array([8, 8])}, "not one whole number"),
        ("segmentation", {"truth_NHW": 2 * LABELS}, "truth_NHW runs"),
        ("segmentation", {"predicted_NHW": 2 * LABELS}, "predicted_NHW runs"),
        ("detection", {"label_D": np.array([2])}, "label_D runs"),
        ("detection", {"truth_image_T": np.array([1])}, "truth_image_T runs"),
        ("attention", {"attention_NJYX": np.ones((2, 3, 5, 5))}, "does not fit"),
        ("attention", {"attention_NJYX": -np.ones((2, 3, 4, 4))}, "0 or more"),
        ("attention", {"images_NHWC": np.ones((2, 16, 16, 3))}, "no array of colour"),
        ("attention", {"query": np.array({})}, "pickled objects"),
        ("features", {"places_N2": np.full((1, 2), np.nan)}, "finite"),
        ("features", {"perplexity": np.array("x")}, "not one number"),
        ("similarity", {"tsp_edges_E": np.zeros(5)}, "damaged"),
        ("similarity", {"tsp_means": np.zeros(5)}, "damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, kind: str, arrays: Arrays, words: str) -> None:
    KINDS[kind].load(save(tmp_path / "whole.npz", **WHOLE[kind]))
    with pytest.raises(InputError, match=rf"damaged\.npz.*{words}"):
        KINDS[kind].load(save(tmp_path / "damaged.npz", **{**WHOLE[kind], **arrays}))


@pytest.mark.parametrize("content", [b"PK\x03\x04 cut", {"a": np.array([{}])}, {"b": np.zeros(1)}])
def test_cut_pickled_and_incomplete_files_are_named(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "odd.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        save(path, **content)
    with pytest.raises(InputError, match=r"odd\.npz"):
        load_arrays(path, ["a"])


def test_a_view_shows_its_patches_and_hides_the_rest(tmp_path: Path) -> None:
    figure = VIEWS.draw({"MiCL": VIEWS.load(save(tmp_path / "v.npz", **SEEN))})
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    original, view = canvas[:16, :16], canvas[:16, -16:]
    assert (original == IMAGES[0]).all()
    assert (view[:8, 8:] == IMAGES[0, :8, 8:]).all()
    assert (view[8:] == 205).all()
    assert (view[:8, :8] == 205).all()


def test_a_view_that_is_a_crop_of_its_own_is_drawn_as_it_is(tmp_path: Path) -> None:
    crops_NVHWC = 255 - IMAGES[:1, None]
    whole = {**SEEN, "keep_NVK": np.arange(4)[None, None], "crops_NVHWC": crops_NVHWC}
    found = {"SimCLR": VIEWS.load(save(tmp_path / "c.npz", **whole))}
    figure = VIEWS.draw(found)
    assert (cell(figure, 0, 0) == IMAGES[0]).all()
    assert (cell(figure, 0, 1) == 255 - IMAGES[0]).all()
    assert "each view is a crop of its own" in VIEWS.caption(found)


def test_parts_that_are_no_views_stand_below_their_own_names(tmp_path: Path) -> None:
    keep_NVK = np.array([[[1, 1, 1], [0, 2, 3]]])
    named = {**SEEN, "keep_NVK": keep_NVK, "names_V": np.array(["visible", "target"])}
    found = {"X": VIEWS.load(save(tmp_path / "n.npz", **named))}
    figure = VIEWS.draw(found)
    assert [text.get_text() for text in figure.axes[0].texts] == ["image", "visible", "target"]
    hidden = [(cell(figure, 0, column) == 205).all(-1)[::8, ::8].tolist() for column in (1, 2)]
    assert hidden == [[[True, False], [True, True]], [[False, True], [False, False]]]
    # A frame per patch, once.
    assert [len(group.get_paths()) for group in figure.axes[0].collections] == [1 + 3]
    assert "each part that is named above" in VIEWS.caption(found)
    assert "each view keeps" in VIEWS.caption({"X": VIEWS.load(save(tmp_path / "v.npz", **SEEN))})


def test_a_map_is_brightest_where_attention_is_largest(tmp_path: Path) -> None:
    arrays = attention()
    arrays["images_NHWC"][:] = 128
    loaded = ATTENTION.load(save(tmp_path / "a.npz", **arrays))
    figure = ATTENTION.draw({"MiCL": loaded})
    heads = shown_heads(loaded, 7)
    assert heads == [0, 1, 3, 5, 7, 9, 11]
    weights = arrays["attention_NJYX"]
    for row, column, own in ((0, 1, weights[0].mean(0)), (1, 4, weights[1, heads[2]])):
        drawn = cell(figure, row, column).sum(-1)
        brightest = np.unravel_index(drawn.argmax(), drawn.shape)
        assert tuple(p // 4 for p in brightest) == np.unravel_index(own.argmax(), (4, 4))
        # One colour in each patch.
        assert np.ptp(drawn.reshape(4, 4, 4, 4), axis=(1, 3)).max() == 0
    titles = [text.get_text() for text in figure.axes[0].texts]
    assert titles == ["image", "mean", *(f"head {j + 1}" for j in heads)]


def test_patches_are_drawn_in_their_colours(tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    arrays = {"images_NHWC": IMAGES, "colours_NYXC": colours, "explained": np.ones(3) / 9}
    figure = PATCHES.draw({"MiCL": PATCHES.load(save(tmp_path / "p.npz", **arrays))})
    np.testing.assert_array_equal(cell(figure, 0, 0), IMAGES[0])
    np.testing.assert_array_equal(cell(figure, 0, 1)[2::4, 2::4], colours[0])


def test_histograms_are_of_their_own_peak_with_means_and_share_their_scale() -> None:
    figure = SIMILARITY.draw({"a": similarities(), "b": similarities(0.5)})
    axes = figure.axes[0]
    lines = [patch for patch in axes.patches if not patch.get_fill()]
    assert [line.get_data().values.tolist() for line in lines] == [  # type: ignore[attr-defined]
        [0, 0, 0.25, 1],
        [0.5, 1, 0, 0],
    ]
    assert [float(line.get_xdata()[0]) for line in axes.lines] == [0.6, -0.4]
    for above, below in ((0, 2), (1, 3)):
        assert figure.axes[above].get_xlim() == figure.axes[below].get_xlim()


def test_a_map_names_each_class_once_and_differs_without_colour() -> None:
    arrays = {
        "places_N2": np.random.default_rng(0).normal(size=(30, 2)),
        "label_N": np.arange(30) % 10,
        "classes": np.array([f"class {i}" for i in range(10)]),
        "perplexity": np.array(5.0),
    }
    figure = FEATURES.draw({"MiCL": arrays, "other": arrays})
    assert [t.get_text() for t in figure.legends[0].get_texts()] == list(arrays["classes"])
    shapes = {str(group.get_paths()[0].vertices.tolist()) for group in figure.axes[0].collections}
    assert len(shapes) == 10


def test_ours_stands_beside_one_other_of_the_same_images(tmp_path: Path) -> None:
    records = []
    for method, seed in (("x", 0), ("MiCL", 0), ("y", 1)):
        save(tmp_path / f"{method}.npz", **attention(seed=seed))
        record = result(
            task="representation", method=method, metrics={"rankme": 3.0},
            artifacts={"attention": f"{method}.npz"}, checkpoint={"digest": method * 20},
        )  # fmt: skip
        records.append(record)
    found = found_gallery("attention", select(recorded(records, tmp_path)))
    (drawing,) = found.drawings
    assert "MiCL" in drawing.caption
    assert ["y" in sentence.split(" of ")[2] for sentence in found.left_out] == [True]
    titles = [text.get_text() for text in drawing.draw().axes[0].texts]
    assert [title for title in titles if "mean" in title] == ["MiCL:\nmean", "x:\nmean"]


def test_few_sentences_are_said_and_the_others_counted() -> None:
    assert Found(left_out=["a", "b", "c"]).remarks == ["a", "b", "c"]
    said = Found(left_out=list("abcdefg")).remarks
    assert said == ["a", "b", "c", "So are 4 more, for like reasons."]


def test_a_picture_has_no_date_and_a_paper_s_fonts(tmp_path: Path) -> None:
    def draw() -> Figure:
        return SIMILARITY.draw({"$x_1$ & <b>": similarities()})

    png, pdf = rendered(draw, ["png", "pdf"])
    assert b"CreationDate" not in pdf
    assert b"Software" not in png
    save_picture(tmp_path / "a.pdf", draw)
    for written in (pdf, (tmp_path / "a.pdf").read_bytes()):
        assert b"/Type3" not in written
        assert b"/CIDFontType2" in written

"""Pictures of artefacts: the pixels that are drawn, damaged files, what is side by side."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from synthetic_results import recorded, result

from micl_bench.report.figures.feature_plots import (
    feature_maps,
    load_map,
    load_similarities,
    similarity_histograms,
)
from micl_bench.report.figures.galleries import found_gallery
from micl_bench.report.figures.render import Found, rendered, save_picture
from micl_bench.report.figures.token_maps import (
    attention_maps,
    load_attention,
    load_patches,
    patch_colours,
    shown_heads,
)
from micl_bench.report.frame.selection import select
from micl_bench.runtime.errors import InputError

Arrays = dict[str, NDArray[Any]]


def attention(heads: int = 12, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "images_NHWC": rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8),
        "attention_NJYX": rng.random((2, heads, 4, 4), dtype=np.float32) / 20,
        "query": np.array("[CLS]"),
    }


def save(path: Path, arrays: Arrays) -> Path:
    np.savez(path, **arrays)
    return path


def test_a_map_is_brightest_where_attention_is_largest(tmp_path: Path) -> None:
    arrays = attention()
    arrays["images_NHWC"][:] = 128
    loaded = load_attention(save(tmp_path / "a.npz", arrays))
    axes = attention_maps({"MiCL": loaded}).axes[0]
    heads = shown_heads(loaded, 7)
    assert heads == [0, 1, 3, 5, 7, 9, 11]
    assert len(axes.images) == 2 * (1 + 1 + 7)
    for place, expected in ((1, arrays["attention_NJYX"][0].mean(0)), (4, None)):
        drawn = np.asarray(axes.images[place].get_array()).astype(int).sum(-1)
        weights = arrays["attention_NJYX"][0, heads[2]] if expected is None else expected
        brightest = np.unravel_index(drawn.argmax(), drawn.shape)
        assert tuple(p // 4 for p in brightest) == np.unravel_index(weights.argmax(), (4, 4))
        # One colour in each patch.
        assert np.ptp(drawn.reshape(4, 4, 4, 4), axis=(1, 3)).max() == 0
    titles = [text.get_text() for text in axes.texts]
    assert titles == ["image", "mean", *(f"head {j + 1}" for j in heads)]


def test_patches_are_drawn_in_their_colours(tmp_path: Path) -> None:
    arrays = {
        "images_NHWC": attention()["images_NHWC"],
        "colours_NYXC": np.random.default_rng(1).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8),
        "explained": np.array([0.5, 0.2, 0.1]),
    }
    loaded = load_patches(save(tmp_path / "p.npz", arrays))
    images = patch_colours({"MiCL": loaded}).axes[0].images
    np.testing.assert_array_equal(images[0].get_array(), arrays["images_NHWC"][0])
    np.testing.assert_array_equal(
        np.asarray(images[1].get_array())[2::4, 2::4], arrays["colours_NYXC"][0]
    )


def similarities() -> Arrays:
    arrays: Arrays = {"kappa": np.array(0.1), "images": np.array(9), "views": np.array(2)}
    for kind in ("cosine", "tsp"):
        arrays |= {
            f"{kind}_edges_E": np.linspace(-1, 1, 5),
            f"{kind}_positive_B": np.array([0, 0, 1, 4]),
            f"{kind}_negative_B": np.array([3, 6, 0, 0]),
            f"{kind}_means": np.array([0.6, -0.4]),
        }
    return arrays


def test_histograms_are_of_their_own_peak_with_means() -> None:
    axes = similarity_histograms({"MiCL": similarities()}).axes[0]
    lines = [patch for patch in axes.patches if not patch.get_fill()]
    assert [line.get_data().values.tolist() for line in lines] == [  # type: ignore[attr-defined]
        [0, 0, 0.25, 1],
        [0.5, 1, 0, 0],
    ]
    assert [float(line.get_xdata()[0]) for line in axes.lines] == [0.6, -0.4]


def test_a_map_names_each_class_once_and_differs_without_colour() -> None:
    arrays = {
        "places_N2": np.random.default_rng(0).normal(size=(30, 2)),
        "label_N": np.arange(30) % 10,
        "classes": np.array([f"class {i}" for i in range(10)]),
        "perplexity": np.array(5.0),
    }
    figure = feature_maps({"MiCL": arrays, "other": arrays})
    assert [t.get_text() for t in figure.legends[0].get_texts()] == list(arrays["classes"])
    shapes = {str(group.get_paths()[0].vertices.tolist()) for group in figure.axes[0].collections}
    assert len(shapes) == 10


@pytest.mark.parametrize(
    ("load", "arrays", "words"),
    [
        (load_attention, {**attention(), "attention_NJYX": np.ones((2, 3, 5, 5))}, "does not fit"),
        (load_attention, {**attention(), "attention_NJYX": -np.ones((2, 3, 4, 4))}, "0 or more"),
        (
            load_attention,
            {**attention(), "images_NHWC": np.ones((2, 16, 16, 3))},
            "no array of colour",
        ),
        (load_attention, {**attention(), "query": np.array({})}, "pickled objects"),
        (load_map, {"places_N2": np.ones((2, 2))}, "lacks label_N"),
        (
            load_map,
            {
                "places_N2": np.full((1, 2), np.nan),
                "label_N": np.array([0]),
                "classes": np.array(["a"]),
                "perplexity": np.array(1.0),
            },
            "finite",
        ),
        (load_similarities, {**similarities(), "tsp_edges_E": np.zeros(5)}, "damaged"),
        (load_similarities, {**similarities(), "tsp_means": np.zeros(5)}, "damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, load: Any, arrays: Arrays, words: str) -> None:
    path = save(tmp_path / "damaged.npz", arrays)
    with pytest.raises(InputError, match=words) as caught:
        load(path)
    assert "damaged.npz" in str(caught.value)


def test_ours_stands_beside_one_other_of_the_same_images(tmp_path: Path) -> None:
    records = []
    for method, seed in (("x", 0), ("MiCL", 0), ("y", 1)):
        save(tmp_path / f"{method}.npz", attention(seed=seed))
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


def test_few_sentences_are_told_and_the_others_counted() -> None:
    assert Found(left_out=["a", "b", "c"]).briefly().left_out == ["a", "b", "c"]
    told = Found(left_out=list("abcdefg")).briefly().left_out
    assert told == ["a", "b", "c", "So are 4 more, for like reasons."]


def test_a_picture_has_no_date_and_a_paper_s_fonts(tmp_path: Path) -> None:
    def draw() -> Figure:
        return similarity_histograms({"$x_1$ & <b>": similarities()})

    png, pdf = rendered(draw, ["png", "pdf"])
    assert b"CreationDate" not in pdf
    assert b"Software" not in png
    save_picture(tmp_path / "a.pdf", draw)
    for written in (pdf, (tmp_path / "a.pdf").read_bytes()):
        assert b"/Type3" not in written
        assert b"/CIDFontType2" in written

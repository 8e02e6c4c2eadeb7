import dataclasses
import io
import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from page_reader import Page
from PIL import Image
from synthetic_results import result

from micl_bench.records.result import Result, write_result
from micl_bench.report import build_report, summary_table
from micl_bench.report.figures.render import rendered
from micl_bench.report.figures.scores_plot import score_bars
from micl_bench.runtime.errors import InputError


def _report(folder: Path, *results: Result) -> Page:
    for made in results:
        write_result(made, folder / "results")
    return Page(build_report(folder / "results", folder / "report").read_text(encoding="utf-8"))


def test_the_page_says_what_embedded_sets_are(demo_report: Path) -> None:
    sentence = "embedded-A stands in for ImageNet-A; its numbers say nothing about ImageNet-A."
    assert sentence in demo_report.read_text(encoding="utf-8")
    assert sentence in (demo_report.parent / "report.md").read_text(encoding="utf-8")


def test_formulas_and_control_characters_in_names_do_no_harm(tmp_path: Path) -> None:
    odd = result(method="$\\broken{$ 50 %", metrics={"top1": 3.0})
    _report(tmp_path, odd, result())
    table = summary_table([dataclasses.replace(odd, method="a\x1b[2Jb\nc")])
    assert "a?[2Jb?c" in table
    assert "\x1b" not in table


def test_a_name_of_any_length_leaves_pictures_as_wide_as_they_are() -> None:
    def width(name: str) -> int:
        (png,) = rendered(lambda: score_bars([result(), result(method=name)]), ["png"])
        with Image.open(io.BytesIO(png)) as image:
            return image.width

    assert width("x" * 10_000) < 1.2 * width("x" * 20)


def test_control_characters_reach_neither_page(tmp_path: Path) -> None:
    attack = "a\x1b[2Jb\x07\x9b"
    odd = result(
        method=attack,
        arch=attack,
        protocol=attack,
        command=attack,
        data={"name": attack, "split": attack, "stands_for": attack},
        settings={attack: attack},
        environment={attack: attack},
    )
    _report(tmp_path, odd, dataclasses.replace(odd, method="MiCL", task=attack))
    for name in ("report.md", "report.html"):
        text = (tmp_path / "report" / name).read_text(encoding="utf-8")
        assert not set("\x1b\x07\x9b") & set(text), name
        assert "b??" in text


def test_bars_stand_centred_and_groups_in_order(tmp_path: Path) -> None:
    made = [result(protocol=words, method=m) for words in "cab" for m in ("MiCL", "x")]
    made.append(result(protocol="d", method="alone"))
    axes = score_bars(made).axes[0]
    names = [label.get_text().splitlines()[-1] for label in axes.get_xticklabels()]
    assert names == ["[a]", "[b]", "[c]", "[d]"]
    middles = sorted(bar.get_x() + bar.get_width() / 2 for bar in axes.patches)
    pairs = [middles[0:2], middles[2:4], middles[4:6]]
    assert [sum(pair) / 2 for pair in pairs] == pytest.approx([0, 1, 2])
    assert middles[6] == pytest.approx(3)


@pytest.mark.parametrize("groups", [2, 9, 24])
def test_names_below_bars_neither_collide_nor_leave_the_picture(groups: int) -> None:
    made = [result(data={"name": f"a-rather-long-name-{i:02d}"}) for i in range(groups)]
    figure = score_bars(made)
    FigureCanvasAgg(figure).draw()
    axes = figure.axes[0]
    texts = axes.get_xticklabels()
    if texts[0].get_rotation() == 0:
        boxes = [text.get_window_extent() for text in texts]
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(boxes))
        assert boxes[-1].x1 <= figure.bbox.x1
    else:
        assert groups == 24


def test_missing_artefacts_are_said(tmp_path: Path) -> None:
    page = _report(
        tmp_path,
        result(task="pretrain", artifacts={"views": "views.npz", "metrics": "metrics.jsonl"}),
        result(task="coco", metrics={"box_AP": 30.0}, artifacts={"detection": "scenes.npz"}),
    )
    words = "".join(page.words)
    assert "The masked views of MiCL are left out: views.npz, which record pretrain-" in words
    assert "Pre-training curves of MiCL are left out: metrics.jsonl" in words
    assert "Detected objects of MiCL are left out: scenes.npz, which record coco-" in words
    assert [i for i in page.ids if i.startswith("picture-")] == ["picture-scores"]


def test_a_folder_that_is_no_report_is_not_replaced(tmp_path: Path) -> None:
    write_result(result(), tmp_path / "results")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    for out, words in (
        ("mine", "other than a report"),
        ("results", "would replace"),
        ("file", "is a file"),
    ):
        with pytest.raises(InputError, match=words):
            build_report(tmp_path / "results", tmp_path / out)
    with pytest.raises(InputError, match="would replace"):
        build_report(tmp_path / "results", tmp_path)
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_an_older_report_is_replaced(tmp_path: Path) -> None:
    _report(tmp_path, result())
    (tmp_path / "report" / "figures" / "stale.png").touch()
    _report(tmp_path)
    assert not (tmp_path / "report" / "figures" / "stale.png").exists()


def test_the_report_imports_no_torch(tmp_path: Path) -> None:
    write_result(result(), tmp_path / "results")
    code = (
        "import sys, pathlib; from micl_bench.report import build_report; "
        f"root = pathlib.Path({str(tmp_path)!r}); build_report(root / 'results', root / 'report'); "
        "assert 'torch' not in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_report_is_made_by_one_process(tmp_path: Path) -> None:
    """A process that it started could outlive it where it is killed."""
    for seed in range(3):
        write_result(result(seed=seed), tmp_path / "results")
    code = (
        "import os, pathlib, multiprocessing as mp; from micl_bench.report import build_report\n"
        "def forbidden(*_): raise AssertionError('a process was started')\n"
        "os.fork = mp.process.BaseProcess.start = forbidden\n"
        f"root = pathlib.Path({str(tmp_path)!r}); build_report(root / 'results', root / 'report')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_summary_needs_no_report_extra() -> None:
    code = (
        "import sys; from micl_bench.report import summary_table; "
        "assert not {'pandas', 'matplotlib', 'jinja2', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_summary_has_a_column_for_each_method() -> None:
    lines = summary_table(
        [
            result(method="random weights", metrics={"top1": 41.25}),
            result(metrics={"top1": 78.4}),
            result(task="coco", metrics={"box_AP": 20.0}, data={"stands_for": "COCO"}),
        ]
    ).splitlines()
    assert lines[0].split() == ["task", "data", "metric", "MiCL", "random", "weights"]
    row = ["knn", "embedded", "top-1", "[%]", "78.4*", "75.6–81.0", "41.2", "38.1–44.5"]
    assert lines[2].split() == row
    assert lines[3].split() == ["coco", "embedded", "box", "AP", "[%]", "20.0"]
    assert lines[-1] == "Stand-ins, no benchmark numbers: embedded for COCO."


def test_the_summary_marks_numbers_of_different_fingerprints() -> None:
    lines = summary_table(
        [
            result(settings={"k": 10}, intervals={}),
            result(settings={"k": 20}, intervals={}, method="x"),
            result(settings={"k": 20}, task="linear", intervals={}),
        ]
    ).splitlines()
    assert lines[2].split() == ["knn", "embedded", "top-1", "[%]", "80.0", "[1]", "80.0", "[2]"]
    assert lines[3].split() == ["linear", "embedded", "top-1", "[%]", "80.0"]
    words = "k-NN, k = 20, cosine, temperature 0.07, 64 px"
    assert lines[5:] == [f"[1] {words}; k: 10", f"[2] {words}; k: 20"]

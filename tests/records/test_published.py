"""The ledger of published numbers: what ships is valid, each kind of damage is named with its row."""

import csv
import io
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support import REPOSITORY, Run

from micl_bench.records.names import arch_label, family, same_method
from micl_bench.records.published import (
    LEDGER,
    Reference,
    ledger_tasks,
    measures,
    read_references,
    stated_protocols,
)
from micl_bench.records.result import DataSet
from micl_bench.robustness import IMAGENET_VAL, imagenet_classes
from micl_bench.runtime.errors import InputError
from micl_bench.tasks import PRETRAINING, declared

PUBLISHED = REPOSITORY / "results" / "published"


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with LEDGER.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def test_every_row_is_read_as_it_stands(rows: list[dict[str, str]]) -> None:
    found = read_references()
    assert len(found) == len(rows) == 581
    assert len({reference.id for reference in found}) == 581
    for reference, row in zip(found, rows, strict=True):
        assert re.fullmatch("published-[0-9a-f]{10}", reference.id)
        assert (reference.text, reference.value) == (row["value"], float(row["value"]))
        assert reference.source
        assert reference.source_detail
        low, high = reference.bounds
        digits = len(row["value"].partition(".")[2])
        assert f"{low:.{digits + 1}f}"[-1] == f"{high:.{digits + 1}f}"[-1] == "5"
        for name in ("method", "arch", "task", "protocol", "metric", "unit", "source"):
            assert getattr(reference, name) == row[name]
        assert str(reference.resolution or "") == row["resolution"]
        epochs = reference.pretrain_epochs
        assert ("" if epochs is None else f"{epochs:g}") == row["pretrain_epochs"]


def test_the_authors_own_numbers_are_two() -> None:
    own = [one for one in read_references() if same_method(one.method) == "MiCL"]
    assert [(one.arch, one.metric, one.value) for one in own] == [
        ("ViT-L/16", "top1", 85.8),
        ("ViT-L/16", "wall_hours", 133),
    ]
    assert own[0].pretrain_epochs is None
    assert own[1].settings == {"hardware": "4 x NVIDIA A100"}


def test_every_protocol_is_mapped_and_no_other(rows: list[dict[str, str]]) -> None:
    stated = stated_protocols()
    mapped = {(task, text) for task, protocols in stated.items() for text in protocols}
    assert mapped == {(row["task"], row["protocol"]) for row in rows}
    archs = {row["arch"] for row in rows}
    for protocols in stated.values():
        for settings in protocols.values():
            for value in settings.values():
                assert not isinstance(value, dict) or value.keys() <= archs


def test_numbers_in_the_mapping_stand_in_the_words() -> None:
    """Nothing is filled in: every number of the mapping is one of its text, or follows from it."""
    follows = {"1x": "12", "9th for B": "4", "14th for L": "11"}
    for protocols in stated_protocols().values():
        for text, settings in protocols.items():
            there = text + "".join(f" {n}" for word, n in follows.items() if word in text)
            there = there.replace("160k", "160000")
            for name, value in settings.items():
                values = value.values() if isinstance(value, dict) else [value]
                for number in re.findall(r"\d+(?:\.\d+)?", " ".join(map(str, values))):
                    plain = f"{100 * float(number):g}" if name.endswith("mask_ratio") else number
                    assert plain in re.findall(r"\d+(?:\.\d+)?", there), (text, name, number)


Damage = Callable[[dict[str, str]], None]


def changed(**cells: str) -> Damage:
    return lambda row: row.update(cells)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (changed(task="imagenet_v3"), "task is 'imagenet_v3'; known: imagenet_knn"),
        (changed(metric="mIoU"), "metric is 'mIoU'; imagenet_finetune has top1"),
        (changed(unit="AP"), "unit is 'AP'; top1 is in %"),
        (changed(value="836"), "value of top1 [%] is '836'; needed: a number above 0, up to 100"),
        (changed(value="0"), "value of top1 [%] is '0'"),
        (changed(value="-1"), "value of top1 [%] is '-1'"),
        (changed(value="nan"), "value of top1 [%] is 'nan'"),
        (changed(value="8e1"), "value of top1 [%] is '8e1'"),
        (changed(value=""), "value is empty"),
        (changed(source=""), "source is empty; every number needs one"),
        (changed(source_detail=""), "source_detail is empty"),
        (changed(method=""), "method is empty"),
        (changed(resolution="224.0"), "resolution is '224.0'; needed: a whole number of pixels"),
        (changed(resolution="0"), "resolution is '0'"),
        (changed(pretrain_epochs="many"), "pretrain_epochs is 'many'"),
        (changed(protocol="a\x1b[31m"), "protocol 'a\\x1b[31m' has a control character"),
        (changed(arch=" ViT-B/16"), "arch ' ViT-B/16' has a control character, or a space"),
    ],
)
def test_damage_is_named_with_its_row(
    rows: list[dict[str, str]], tmp_path: Path, damage: Damage, words: str
) -> None:
    some = [dict(row) for row in rows[:5]]
    damage(some[3])
    path = write(tmp_path / "ledger.csv", some)
    with pytest.raises(InputError) as refused:
        read_references(path)
    assert str(refused.value).startswith(f"{path}, line 5 (")
    assert words in str(refused.value)


def test_a_number_that_is_there_twice_is_named(rows: list[dict[str, str]], tmp_path: Path) -> None:
    some = [*rows[:3], {**rows[1], "value": "130", "source_detail": "elsewhere"}]
    with pytest.raises(InputError, match=r"line 5 .*about the same number as line 3"):
        read_references(write(tmp_path / "ledger.csv", some))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a,b\n1,2\n", "has the columns"),
        (b"", "has the columns none"),
        (b"\xff\xfe\x00", "is no ledger"),
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "ledger.csv").write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_references(tmp_path / "ledger.csv")


def test_a_row_of_too_few_cells_and_a_missing_file(
    rows: list[dict[str, str]], tmp_path: Path
) -> None:
    path = tmp_path / "ledger.csv"
    path.write_text(",".join(rows[0]) + "\nMAE,ViT-B/16\n")
    with pytest.raises(InputError, match=r"line 2 .*another number of cells than 12"):
        read_references(path)
    with pytest.raises(InputError, match="is no ledger"):
        read_references(tmp_path / "none.csv")


def test_what_a_number_measures() -> None:
    found = {(one.task, one.metric): measures(one) for one in read_references()}
    assert found["imagenet_finetune", "top1"] == ("finetune", "imagenet", "top1")
    assert found["imagenet_a", "top1"] == ("robustness", "imagenet-a", "top1")
    assert found["imagenet_c", "mCE"] == ("robustness", "imagenet-c", "mCE")
    assert found["coco_cascade", "AP_mask"] == ("coco", "coco", "mask_AP")
    assert found["ade20k_upernet", "mIoU_ms_flip"] == ("ade20k", "ade20k", "mIoU")
    assert found["pretrain_cost", "wall_hours"] == ("pretrain", "imagenet", "wall_hours")
    few = [one for one in read_references() if one.task == "imagenet_1pct"]
    assert {measures(one)[0] for one in few} == {"logistic", "finetune"}
    assert all(one.settings["labels"] == "1 %" for one in few)


def data(name: str, split: str, images: int, stands_for: str = "") -> DataSet:
    return DataSet(name=name, split=split, images=images, digest="d" * 64, stands_for=stands_for)


@pytest.mark.parametrize(
    ("measured", "label"),
    [
        (data("imagenet", "val", IMAGENET_VAL.images or 0), "imagenet"),
        (data("ILSVRC2012", "val", 50 * len(imagenet_classes())), "imagenet"),
        (data("imagenet", "train", 1_281_167), "imagenet"),
        (data("imagenet", "val", 10_000), "imagenet (10,000 images, split val)"),
        (data("imagenet", "test", 50_000), "imagenet (50,000 images, split test)"),
        (data("my-photos", "val", 50_000), "my-photos"),
        (data("imagenet-c-fog", "val", 50_000), "imagenet-c-fog"),
        (data("ImageNet-A", "all", 7_500), "imagenet-a"),
        (data("ImageNet-A", "all", 7_499), "ImageNet-A (7,499 images, split all)"),
        (data("ImageNet-C", "all", 3_750_000), "imagenet-c"),
        (data("ImageNetV2-Threshold0.7", "all", 10_000), "imagenet-v2-threshold-0.7"),
        (data("ADEChallengeData2016", "validation", 2_000), "ade20k"),
        (data("coco", "val2017", 5_000), "coco"),
        (data("coco", "val2017", 500), "coco (500 images, split val2017)"),
        (data("embedded", "val", 360, "ImageNet"), "embedded"),
        (data("embedded-A", "all", 80, "ImageNet-A"), "embedded-A"),
        (data("imagenet", "val", 50_000, "ImageNet"), "imagenet (50,000 images, split val)"),
    ],
)
def test_a_set_is_public_by_name_split_and_size(measured: DataSet, label: str) -> None:
    assert family(measured) == label


def test_the_sizes_of_public_sets_are_those_that_are_checked_before_measuring() -> None:
    from micl_bench.runtime import plugins

    for name in plugins.names("robustness"):
        one = plugins.find("robustness", name).SET
        if one.images is None:
            continue
        split = "val" if one.labels == "image numbers" else "all"
        label = family(data(one.title, split, one.images * len(one.parts)))
        assert label != one.title
        assert "images," not in label


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("vit_base_patch16_224", "ViT-B/16"),
        ("vit_base_patch16_224.mae", "ViT-B/16"),
        ("vit_small_12heads_patch16_224", "ViT-S/16"),
        ("vit_huge_patch14_gap_224", "ViT-H/14"),
        ("vit_giant_patch14_reg4_dinov2", "ViT-g/14"),
        ("beitv2_large_patch16_224", "ViT-L/16"),
        ("vit_demo_patch4_32", "vit_demo_patch4_32"),
        ("vit_small_plus_patch16_dinov3", "vit_small_plus_patch16_dinov3"),
        ("vit_w768_d12_patch16_224", "vit_w768_d12_patch16_224"),
        ("ViT-B/16", "ViT-B/16"),
    ],
)
def test_architectures_as_papers_call_them(name: str, label: str) -> None:
    assert arch_label(name) == label


def test_names_of_one_method() -> None:
    assert same_method("OCL") == same_method("MiCL") == "MiCL"
    assert same_method("MAE, fine-tuned") == same_method("MAE (fine-tuned)") == "MAE"
    assert same_method("DINOv2 with registers") == "DINOv2 + registers"
    assert same_method("MAE (unnormalized pixels)") == "MAE (unnormalized pixels)"


def test_what_a_printed_number_stands_for() -> None:
    (first,) = [one for one in read_references() if one.text == "83.664"]
    assert first.bounds == pytest.approx((83.6635, 83.6645), abs=1e-9)
    plain = Reference(**{**first.__dict__, "text": "", "value": 83.6})
    assert plain.bounds == pytest.approx((83.55, 83.65), abs=1e-9)


def test_the_list_counts_the_numbers_of_a_method(micl_bench: Run) -> None:
    done = micl_bench("list", "published")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == len({one.method for one in read_references()})
    (ours,) = [line for line in lines if line.startswith("OCL ")]
    assert "2 numbers; imagenet_finetune, pretrain_cost; ViT-L/16" in ours
    assert sum(int(re.search(r"(\d+) numbers", line)[1]) for line in lines) == 581  # type: ignore[index]


def test_what_is_unknown_stays_visible() -> None:
    text = (PUBLISHED / "README.md").read_text(encoding="utf-8")
    for words in ("Not verified", "ccMIM", "in conflict", "133 hours on 4 A100", "n/a", "78.1"):
        assert words in text
    assert text.count("**in conflict**") == 5


@pytest.mark.long
def test_a_wheel_holds_both_files(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("micl_bench", "results"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, source / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        for name, original in (
            ("published_results.csv", "published_results.csv"),
            ("published_protocols.yaml", "protocols.yaml"),
            ("published_tasks.yaml", "tasks.yaml"),
        ):
            assert file.read(f"micl_bench/records/{name}") == (PUBLISHED / original).read_bytes()


def test_the_ledger_names_declared_tasks_and_metrics_with_their_directions() -> None:
    for one in ledger_tasks().values():
        task = declared(one.task)
        assert one.short in ("", task.label)
        # What a pre-training costs, and what is left of mCE, are no metrics of a record.
        for name, metric in one.metrics.items():
            ours = metric.ours or name
            if ours != "1-mCE" and task is not PRETRAINING:
                assert metric.better == task.measure(ours).better
                assert metric.header == task.measure(ours).header

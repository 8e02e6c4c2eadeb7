"""Robustness with known answers: images whose colour is what a classifier of colours will say."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colours import IDS, SMALL, colour, nearest, paint, save_classifier
from support import REPOSITORY, Run, good, intervals_in, overrides, refused, torchrun, values_in

from micl_bench.checkpoints import export, load_checkpoint
from micl_bench.data.folder import open_folder
from micl_bench.data.pixels import Pixels
from micl_bench.data.stream import evaluation_batches
from micl_bench.records.evidence.predictions import read_predictions
from micl_bench.records.statistics import wilson
from micl_bench.robustness import imagenet_classes, real_labels
from micl_bench.runtime.errors import InputError

RANDOM = "random:vit_demo_patch4_32"
DOWNSTREAM = REPOSITORY / "downstream"
A, R = imagenet_classes("a"), imagenet_classes("r")
ALL = "imagenet_robustness_all.py"


def evaluation(
    data: Path, out: Path, *more: str, recipe: str = "imagenet_robustness.py", checkpoint: Path
) -> list[object]:
    words: list[object] = ["eval", "robustness", "--checkpoint", checkpoint]
    words += ["--recipe", DOWNSTREAM / recipe, "--data", data, "--out", out]
    return words + overrides(*SMALL, *more)


def records(out: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in out.glob("*.json")]
    return {record["data"]["name"]: record for record in found}


def show(data: Path, place: str, number: int, shown: int, *, named: str = "") -> None:
    """An image in `place`, of class `number`, whose colour is another class's."""
    paint(data / place / (named or IDS[number]) / f"{number}_{shown}.JPEG", colour(shown))


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`named.pt` has its outputs in another order and names them; `nameless.pt` has neither, a bare
    state dict with timm's names."""
    folder = tmp_path_factory.mktemp("classifiers")
    order = np.random.default_rng(0).permutation(1000).tolist()
    save_classifier(folder / "named.pt", order=order, names=[IDS[i] for i in order])
    save_classifier(folder / "nameless.pt", order=range(1000))
    return folder


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[bool]]]:
    """ImageNet-A, -R and -Sketch with an image a class, and what is right by metric.

    Every third image of A shows the colour of a class that A has not.
    """
    data, right = tmp_path_factory.mktemp("shifted"), dict[str, list[bool]]()
    strangers = [i for i in range(1000) if IDS[i] not in A]
    own = [IDS.index(name) for name in A]
    for place, name in enumerate(A):
        number = IDS.index(name)
        shown = strangers[3 * place] if place % 3 == 0 else number if place % 3 == 1 else own[0]
        show(data, "imagenet-a", number, shown)
        right.setdefault("top1_of_1000", []).append(shown == number)
        right.setdefault("top1", []).append(nearest(colour(shown), own) == number)
    for name in R:
        show(data, "imagenet-r", IDS.index(name), IDS.index(name))
    for number in range(1000):
        show(data, "sketch", number, number if number % 4 else (number + 1) % 1000)
        # Clean: every tenth is wrong.
        show(data, "imagenet/val", number, number if number % 10 else (number + 5) % 1000)
    right["clean_top1_of_1000"] = [number % 10 != 0 for number in own]
    right["clean_top1"] = [
        nearest(colour(number if number % 10 else (number + 5) % 1000), own) == number
        for number in own
    ]
    return data, right


@pytest.fixture(scope="module")
def three(
    shifted: tuple[Path, dict[str, list[bool]]],
    classifiers: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The records of two processes, with the classifier that names its classes."""
    out = tmp_path_factory.mktemp("three")
    words = evaluation(shifted[0], out, checkpoint=classifiers / "named.pt")
    good(torchrun(2, "-m", "micl_bench", *words))
    return out


@pytest.mark.long
def test_both_readings_of_a_and_of_its_clean_classes_are_the_known_ones(
    three: Path, shifted: tuple[Path, dict[str, list[bool]]]
) -> None:
    record = records(three)["ImageNet-A"]
    expected = {name: 100 * float(np.mean(right)) for name, right in shifted[1].items()}
    expected["drop"] = expected["clean_top1"] - expected["top1"]
    assert values_in(record) == pytest.approx(expected)
    # The two readings differ, so neither can stand for the other.
    assert values_in(record)["top1"] != values_in(record)["top1_of_1000"]
    assert intervals_in(record)["top1"] == pytest.approx(wilson(expected["top1"], 200))
    assert intervals_in(record)["clean_top1"] == pytest.approx(wilson(expected["clean_top1"], 200))
    low, high = intervals_in(record)["drop"]
    # Of a difference of two independent proportions.
    shares = [expected[name] / 100 for name in ("top1", "clean_top1")]
    half = 196 * sum(share * (1 - share) / 200 for share in shares) ** 0.5
    assert (low, high) == pytest.approx((expected["drop"] - half, expected["drop"] + half), abs=1.5)
    assert record["settings"]["reading"] == "own classes"
    assert record["details"]["classes"] == "named by the checkpoint"
    assert record["settings"]["precision"] == "fp32"
    assert record["settings"]["images"] == "200 of 7500"
    assert record["settings"]["clean_images"] == "200 of 10000"
    assert "only 200 of 7500 images; only 200 of 10000 clean images" in record["protocol"]
    assert record["protocol"].startswith("classifier: unknown; ")


def test_predictions_are_kept_image_by_image(
    three: Path, shifted: tuple[Path, dict[str, list[bool]]]
) -> None:
    record = records(three)["ImageNet-A"]
    kept = read_predictions(three / record["artifacts"]["evidence"])
    assert len(kept.files) == 400 == len(set(kept.files))
    place = {name: number for number, name in enumerate(kept.classes)}
    for metric, right in shifted[1].items():
        start = "imagenet/val" if metric.startswith("clean") else "imagenet-a"
        rows = [i for i, name in enumerate(kept.files) if name.startswith(start)]
        assert kept.counted(metric) == 200
        assert kept.correct[metric][rows].tolist() == [int(value) for value in right]
        truth = [place[Path(kept.files[i]).parent.name] for i in rows]
        assert kept.labels_M[rows].tolist() == truth


def test_a_set_of_all_classes_has_one_reading(three: Path) -> None:
    found = records(three)
    assert values_in(found["ImageNet-R"])["top1"] == 100
    assert values_in(found["ImageNet-R"])["top1_of_1000"] == 100
    sketch = found["ImageNet-Sketch"]
    assert values_in(sketch) == pytest.approx({"top1": 75, "clean_top1": 90, "drop": 15})
    assert sketch["details"]["clean"]["images"] == 1000


def test_processes_and_batches_change_no_bit_and_names_are_assumed_where_none_are(
    micl_bench: Run,
    three: Path,
    shifted: tuple[Path, dict[str, list[bool]]],
    classifiers: Path,
    tmp_path: Path,
) -> None:
    words = evaluation(
        shifted[0], tmp_path / "out", "batch_size=7", checkpoint=classifiers / "nameless.pt"
    )
    done = good(micl_bench(*words))
    two, one = records(three), records(tmp_path / "out")
    assert two.keys() == one.keys()
    for name in two:
        for part in ("metrics", "data"):
            assert two[name][part] == one[name][part]
        # How the classes are known moves no number.
        assert one[name]["details"]["classes"] == "assumed in order of WordNet ids"
        assert one[name]["fingerprint"] == two[name]["fingerprint"]
    # Each record has its own seconds, not all the call's; two may agree to the millisecond.
    assert len({record["seconds"] for record in one.values()}) > 1
    progress = done.stderr.count("robustness, imagenet/val")
    assert progress == 1, "the clean images are read once"


def test_numbers_as_folder_names_are_refused(
    micl_bench: Run, classifiers: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    for place, name in enumerate(A[:3]):
        show(data, "imagenet-a", IDS.index(name), IDS.index(name), named=str(place))
        show(data, "imagenet/val", IDS.index(name), IDS.index(name))
    words = evaluation(data, tmp_path / "out", checkpoint=classifiers / "named.pt")
    done = refused(micl_bench(*words, "--set", "sets=[imagenet_a]"))
    assert "class folders named by numbers (0, 1, 2)" in done.stderr
    assert "name them by WordNet id" in done.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.json"))


def test_what_is_missing_is_told_before_anything_is_measured(
    micl_bench: Run, shifted: tuple[Path, dict[str, list[bool]]], classifiers: Path, tmp_path: Path
) -> None:
    words = evaluation(
        shifted[0], tmp_path, "allow_partial=false", checkpoint=classifiers / "named.pt"
    )
    done = refused(micl_bench(*words))
    assert "imagenet-a holds 200 of 7,500 images" in done.stderr
    assert "allow_partial=true" in done.stderr


def test_a_classifier_of_other_classes_is_refused(
    micl_bench: Run, shifted: tuple[Path, dict[str, list[bool]]], tmp_path: Path
) -> None:
    save_classifier(tmp_path / "r.pt", order=[IDS.index(name) for name in R], names=R)
    save_classifier(tmp_path / "few.pt", order=range(200))
    for name, message in (
        ("r.pt", "does not know"),
        ("few.pt", "has 200 outputs and does not say what they stand for"),
    ):
        words = evaluation(shifted[0], tmp_path / "out", checkpoint=tmp_path / name)
        done = refused(micl_bench(*words, "--set", "sets=[imagenet_a]"))
        assert message in done.stderr


def test_v2_real_and_objectnet_have_the_known_answers(
    micl_bench: Run, classifiers: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    # V2: folder "10" is class 10, not the third of the sorted folders.
    for number in (0, 1, 2, 10, 100, 999):
        show(data, "imagenetv2-threshold0.7-format-val", number, number, named=str(number))
    # ReaL: the image's number decides. 1 has no label; 2 has two, neither the original one; 3 has
    # two; 4 is wrong by both.
    for image, original, shown in ((1, 65, 65), (2, 0, 795), (3, 230, 231), (4, 809, 1)):
        name = f"ILSVRC2012_val_{image:08d}.JPEG"
        paint(data / "imagenet/val" / IDS[original] / name, colour(shown))
    assert [real_labels()[i] for i in range(4)] == [(), (970, 795), (230, 231), (809,)]
    for number, image in ((1, 5), (2, 6), (10, 7), (100, 8), (999, 9), (409, 10), (530, 11)):
        name = f"ILSVRC2012_val_{image:08d}.JPEG"
        paint(data / "imagenet/val" / IDS[number] / name, colour(number))
    write_objectnet(data / "objectnet-1.0")
    sets = "sets=[imagenet_v2_threshold07,imagenet_real,objectnet]"
    words = evaluation(
        data, tmp_path / "out", sets, recipe=ALL, checkpoint=classifiers / "named.pt"
    )
    good(micl_bench(*words))
    found = records(tmp_path / "out")
    v2 = values_in(found["ImageNetV2-Threshold0.7"])
    assert v2 == pytest.approx({"top1": 100, "clean_top1": 500 / 6, "drop": 100 - 700 / 6})
    check_real(found["ImageNet-ReaL"], tmp_path / "out")
    check_objectnet(found["ObjectNet-overlap"])


def test_an_image_that_is_all_border_is_told(tmp_path: Path) -> None:
    paint(tmp_path / "mug" / "tiny.png", (0, 0, 255), side=4)
    folder = dataclasses.replace(open_folder(tmp_path), border=2)
    with pytest.raises(InputError, match=r"tiny\.png has 4 x 4 pixels, no more than the border"):
        list(evaluation_batches(folder, Pixels(img_size=8), batch_size=1))


def check_real(record: dict[str, Any], out: Path) -> None:
    kept = read_predictions(out / record["artifacts"]["evidence"])
    by_image = {
        int(Path(name).stem[-8:]): (int(kept.correct["real_top1"][i]), int(kept.correct["top1"][i]))
        for i, name in enumerate(kept.files)
    }
    assert [by_image[image] for image in (1, 2, 3, 4)] == [(-1, 1), (1, 0), (1, 0), (0, 0)]
    labels = {number: real_labels()[image - 1] for number, image in ((1, 5), (2, 6), (10, 7))}
    for number, image in ((1, 5), (2, 6), (10, 7)):
        expected = int(number in labels[number]) if labels[number] else -1
        assert by_image[image] == (expected, 1)
    assert values_in(record)["top1"] == pytest.approx(100 * 8 / 11)
    assert set(values_in(record)) == {"real_top1", "top1"}


def write_objectnet(root: Path) -> None:
    """A release of 113 objects: the first stands for two classes, whose words hold commas.

    ILSVRC's own order is the sorted one backwards.
    """
    mappings, images = root / "mappings", root / "images"
    mappings.mkdir(parents=True)
    words = [f"thing {number}, stuff {number}" for number in range(1000)]
    places = [(409, 530), *((number,) for number in range(112))]
    files = {
        "folder_to_objectnet_label.json": {
            **{f"object_{i:03d}": f"Object {i}" for i in range(113)},
            "chess_piece": "Chess piece",
        },
        "objectnet_to_imagenet_1k.json": {
            f"Object {i}": "; ".join(words[number] for number in numbers)
            for i, numbers in enumerate(places)
        },
        "pytorch_to_imagenet_2012_id.json": {str(i): 999 - i for i in range(1000)},
    }
    for name, content in files.items():
        (mappings / name).write_text(json.dumps(content))
    (mappings / "imagenet_to_label_2012_v2").write_text("\n".join(reversed(words)) + "\n")
    # Right by either class; wrong among all outputs but right among the 113 objects' (the stranger's
    # nearest colour of theirs); plainly wrong.
    paint(images / "object_000" / "a.png", colour(409), frame=2)
    paint(images / "object_000" / "b.png", colour(530), frame=2)
    paint(images / "object_000" / "c.png", colour(408), frame=2)
    paint(images / "object_002" / "d.png", colour(50), frame=2)
    paint(images / "chess_piece" / "e.png", colour(5), frame=2)


def check_objectnet(record: dict[str, Any]) -> None:
    among = [409, 530, *range(112)]
    assert nearest(colour(408), among) == 409
    metrics = values_in(record)
    # Clean: classes 409 and 530 of the first object, 1 of the third (`range(112)[1]`), all right.
    expected = {
        "top1": 50,
        "top1_of_113": 75,
        "clean_top1": 100,
        "clean_top1_of_113": 100,
        "drop": 50,
    }
    assert metrics == pytest.approx(expected)
    assert record["data"]["images"] == 4
    assert record["settings"]["border"] == 2


def made_and_measured(
    run: Run, task: str, options: tuple[str, ...], data: Path, embedded: Path, out: Path
) -> dict[str, dict[str, Any]]:
    """The robustness of a classifier that a task leaves."""
    words = [word for option in options for word in ("--set", option)]
    recipe = DOWNSTREAM / f"embedded_{task}.py"
    places = ("--data", data, "--out", out / task, "--recipe", recipe)
    done = run("eval", task, "--checkpoint", RANDOM, *places, *words)
    assert done.returncode == 0, done.stderr
    recipe = DOWNSTREAM / "embedded_robustness.py"
    places = ("--data", embedded, "--out", out / "found", "--recipe", recipe)
    done = run("eval", "robustness", "--checkpoint", out / task / "classifier.pt", *places)
    assert done.returncode == 0, done.stderr
    return records(out / "found")


@pytest.mark.long
def test_a_fine_tuned_classifier_meets_the_three_sets_and_a_linear_one_is_told_from_it(
    micl_bench: Run, embedded: Path, few_digits: Path, tmp_path: Path
) -> None:
    short = ("training.epochs=1", "training.batch_size=40")
    tuned = made_and_measured(
        micl_bench, "finetune", short, few_digits, embedded, tmp_path / "tuned"
    )
    few = (
        "probe.epochs=1",
        "probe.warmup_epochs=0",
        "probe.batch_size=20",
        "fraction=0.5",
        "seed=3",
    )
    linear = made_and_measured(micl_bench, "linear", few, few_digits, embedded, tmp_path / "linear")
    for measured, words in (
        (tuned, "fine-tuned, head on [CLS]"),
        (linear, "linear probe on [CLS], 0.5 of each class's labels"),
    ):
        for record in measured.values():
            assert record["settings"]["classifier"] == words
            assert record["protocol"].startswith(f"classifier: {words}; ")
    assert all(tuned[name]["fingerprint"] != linear[name]["fingerprint"] for name in tuned)
    found = tuned.values()
    data = {(r["data"]["name"], r["data"]["stands_for"], r["data"]["images"]) for r in found}
    assert data == {
        ("embedded-A", "ImageNet-A", 80),
        ("embedded-R", "ImageNet-R", 359),
        ("embedded-Sketch", "ImageNet-Sketch", 359),
    }
    for record in found:
        metrics = values_in(record)
        assert metrics["drop"] == pytest.approx(metrics["clean_top1"] - metrics["top1"])
        assert "images" not in record["settings"]


def test_how_a_classifier_was_made_survives_other_layouts_and_must_be_a_line(
    tmp_path: Path,
) -> None:
    own, words = tmp_path / "own.pt", "linear probe on [CLS]"
    save_classifier(own, order=range(3), names=IDS[:3], classifier=words)
    for layout, name in (("timm", "timm.pt"), ("safetensors", "timm.safetensors")):
        export(load_checkpoint(own), layout, tmp_path / name)
        assert load_checkpoint(tmp_path / name).maker == words
    for strange in ("two\nlines", ["a list"], "x" * 201):
        save_classifier(own, order=range(3), names=IDS[:3], classifier=strange)
        with pytest.raises(InputError, match=r"\$\.provenance\.classifier is .*; needed: "):
            load_checkpoint(own)


def test_a_backbone_without_a_head_is_refused(micl_bench: Run, embedded: Path) -> None:
    words = ("--checkpoint", RANDOM, "--data", embedded, "--out", "out")
    done = refused(micl_bench("eval", "robustness", *words, "--set", "pixels.img_size=32"))
    assert "no classifier head; fine-tune it first" in done.stderr


def test_a_class_that_the_clean_set_lacks_is_refused(
    micl_bench: Run, embedded: Path, classifiers: Path, tmp_path: Path
) -> None:
    for part in ("embedded/val", "embedded-a"):
        shutil.copytree(embedded / part, tmp_path / "data" / part)
    shutil.rmtree(tmp_path / "data/embedded/val/digit_3")
    words = ("--checkpoint", classifiers / "named.pt", "--data", tmp_path / "data", "--out", "out")
    small = ("--set", "pixels.img_size=8", "--set", "sets=[embedded_a]")
    done = refused(micl_bench("eval", "robustness", *words, *small))
    assert "embedded-A has classes that" in done.stderr
    assert "digit_3" in done.stderr

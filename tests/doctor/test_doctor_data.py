"""Data folders as people have them: whole, in part, unsorted, renamed, of other layouts."""

import functools
import io
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import pytest
from PIL import Image
from support import Run

from micl_bench.data.embedded import PARTS
from micl_bench.doctor import Finding, check_data

RANDOM = ("--checkpoint", "random:vit_tiny_patch16_224")


def imagenet_classes(subset: str = "") -> list[str]:
    """WordNet ids, from timm's files."""
    name = f"imagenet_{subset}_synsets.txt" if subset else "imagenet_synsets.txt"
    return (resources.files("timm.data") / "_info" / name).read_text().split()


def fill(folder: Path, names: list[str], images: int, suffix: str = ".JPEG") -> None:
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(images):
            (folder / name / f"{number}{suffix}").write_bytes(jpeg())


@functools.cache
def jpeg(orientation: int = 1, size: tuple[int, int] = (1, 1)) -> bytes:
    """An image, with what EXIF says of its orientation."""
    exif, content = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.new("RGB", size).save(content, "JPEG", exif=exif)
    return content.getvalue()


def only(findings: list[Finding], level: str) -> Finding:
    (one,) = [finding for finding in findings if finding.level == level]
    return one


@pytest.mark.parametrize(
    ("classes", "images", "splits"),
    [(1000, 1, ["val"]), (1000, 3, ["train", "val"]), (100, 1, ["train", "val"]), (3, 60, ["val"])],
    ids=["as ImageNetV2", "more images", "ImageNet-100", "few classes"],
)
def test_other_sets_of_imagenets_classes_are_no_problem(
    micl_bench: Run, tmp_path: Path, classes: int, images: int, splits: list[str]
) -> None:
    for split in splits:
        fill(tmp_path / split, imagenet_classes()[:classes], images)
    findings = check_data(tmp_path)
    assert {finding.level for finding in findings} == {"ok"}
    assert all(f"{classes:,} classes" in finding.found for finding in findings)
    assert micl_bench("doctor", "--data", tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("split", "name"),
    [
        ("val", "ILSVRC2012_val_00000001.JPEG"),
        ("train", "n01440764.tar"),
        ("", "ILSVRC2012_img_train.tar"),
    ],
)
def test_imagenet_as_it_is_downloaded_is_told_how_to_be_sorted(
    tmp_path: Path, split: str, name: str
) -> None:
    (tmp_path / split).mkdir(exist_ok=True)
    (tmp_path / split / name).touch()
    one = only(check_data(tmp_path), "problem")
    assert f"1 file of ImageNet's, not sorted into classes: {name}" in one.found
    assert f"put ImageNet's archives and ILSVRC2012_devkit_t12.tar.gz into {tmp_path}" in one.fix
    assert f"ImageNet('{tmp_path}', split='val')" in one.fix


@pytest.mark.parametrize("name", ["{}", "{:04d}", "class_{}"])
def test_folders_by_number_are_no_labels(tmp_path: Path, name: str) -> None:
    """Guessed label orders gave published weights 0.08 % and 12 %."""
    fill(tmp_path / "val", [name.format(number) for number in range(1000)], 1)
    one = only(check_data(tmp_path), "warning")
    assert "nothing says in which order labels count" in one.found
    assert "WordNet id" in one.fix


def test_own_image_folders_may_be_called_anything(few_digits: Path) -> None:
    findings = check_data(few_digits)
    assert {finding.level for finding in findings} == {"ok"}
    assert "80 images in 10 classes" in findings[0].found


def test_parts_of_imagenet_stray_folders_and_empty_ones(tmp_path: Path) -> None:
    names = imagenet_classes()[:100]
    fill(tmp_path / "train", names, 1)
    assert only(check_data(tmp_path), "ok").found == "100 images in 100 classes"
    (tmp_path / "train" / "n02000000").mkdir()
    (tmp_path / "train" / "thumbnails").mkdir()
    (tmp_path / "train" / ".thumbnails").mkdir()
    found = {finding.found for finding in check_data(tmp_path) if finding.level == "problem"}
    assert any("without an image: n02000000, thumbnails" in text for text in found)
    warnings = {finding.found for finding in check_data(tmp_path) if finding.level == "warning"}
    assert any("1 folder is no WordNet id: thumbnails" in text for text in warnings)
    assert "1 entry is not read: 1 with a leading dot (.thumbnails)" in warnings


def test_classes_that_training_lacks(tmp_path: Path) -> None:
    names = imagenet_classes()
    fill(tmp_path / "train", names[:3], 1)
    fill(tmp_path / "val", names[:4], 1)
    assert f"train lacks: {names[3]}" in only(check_data(tmp_path), "problem").found


def test_shifted_sets_are_checked_as_their_task_does(tmp_path: Path) -> None:
    fill(tmp_path / "imagenet-a", imagenet_classes("a"), 1)
    found = [finding for finding in check_data(tmp_path) if "imagenet-a" in finding.subject]
    assert found
    assert all(finding.level == "problem" and finding.fix for finding in found)
    assert any("7,500" in finding.found or "7500" in finding.found for finding in found)


def test_the_embedded_set_and_packed_stores_are_known(embedded: Path, tmp_path: Path) -> None:
    assert "the embedded set: embedded, embedded-a" in only(check_data(embedded), "ok").found
    (tmp_path / "dataset.json").touch()
    (tmp_path / "embedded").mkdir()
    assert "the embedded set without" in only(check_data(tmp_path), "problem").found
    store = tmp_path / "store"
    store.mkdir()
    (store / "journal.jsonl").touch()
    assert "data pack" in only(check_data(store), "problem").fix
    (store / "store.json").touch()
    assert f"micl-bench data verify {store}" in only(check_data(store), "ok").found


def test_a_part_of_the_embedded_set_is_known(embedded: Path) -> None:
    # `test_doctor_dense` has those for segmentation and detection.
    for name in ("embedded", "embedded-a", "embedded-r", "embedded-sketch"):
        stands_for, findings = PARTS[name], check_data(embedded / name)
        assert {finding.level for finding in findings} == {"ok"}
        assert findings[0].found.endswith(f"of the embedded set, which stands in for {stands_for}")


@pytest.mark.parametrize("name", ["imagenet-a", "objectnet-1.0", "objectnet-1.0/images"])
def test_a_shifted_set_that_is_given_itself_is_checked_as_below_its_data_folder(
    tmp_path: Path, name: str
) -> None:
    fill(tmp_path / "imagenet-a", imagenet_classes("a"), 1)
    fill(tmp_path / "objectnet-1.0" / "images", ["air_freshener"], 1)
    below = [one for one in check_data(tmp_path) if f"/{name.split('/')[0]}" in one.subject]
    assert below
    assert check_data(tmp_path / name) == below


def test_class_folders_alone_are_image_folders_whatever_they_are_called(few_digits: Path) -> None:
    findings = check_data(few_digits / "val")
    assert only(findings, "ok").found == "40 images in 10 classes"


def _damage(image: Path) -> None:
    image.write_bytes(b"<html>404</html>")


def _cut(image: Path) -> None:
    content = jpeg(size=(300, 300))
    image.write_bytes(content[: len(content) // 2])


def _deep(image: Path) -> None:
    Image.new("I;16", (4, 4)).save(image, "TIFF")


def _strange(image: Path) -> None:
    Image.new("RGB", (4, 4)).save(image, "TGA")


@pytest.mark.parametrize(
    "harm",
    [_damage, *(pytest.param(one, marks=pytest.mark.long) for one in (_cut, _deep, _strange))],
)
def test_doctor_finds_the_images_that_eval_refuses(
    micl_bench: Run, few_digits: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    """Both in the same words, before anything is computed."""
    data = tmp_path / "data"
    shutil.copytree(few_digits, data)
    image = sorted((data / "val").glob("*/*"))[7]
    image.unlink()
    harm(image)
    one = only(check_data(data), "problem")
    assert one.subject == str(data / "val")
    assert one.found.startswith(f"1 of 40 images cannot be read: {image} is no readable image (")
    assert micl_bench("doctor", "--data", data).returncode == 2
    for task, *more in (["knn"], ["finetune", "--set", "training.batch_size=16"]):
        options = [*RANDOM, "--data", data, "--out", tmp_path / task, *more]
        done = micl_bench("eval", task, *options)
        assert done.returncode == 2
        assert one.found.partition(": ")[2] in done.stderr.splitlines()[-1]
        assert not list((tmp_path / task).rglob("*.json"))


def test_images_of_a_shifted_set_are_opened_too(tmp_path: Path) -> None:
    fill(tmp_path / "imagenet-a", imagenet_classes("a"), 1)
    image = tmp_path / "imagenet-a" / imagenet_classes("a")[9] / "0.JPEG"
    _damage(image)
    found = [finding.found for finding in check_data(tmp_path) if finding.level == "problem"]
    assert any(text.startswith(f"1 of 200 images cannot be read: {image}") for text in found)


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_images_that_exif_turns_are_a_remark(tmp_path: Path, orientation: int) -> None:
    fill(tmp_path / "train", ["a", "b"], 2)
    (tmp_path / "train" / "a" / "turned.jpg").write_bytes(jpeg(orientation))
    one = only(check_data(tmp_path), "warning")
    assert one.found.startswith("1 of 5 images is turned or mirrored by EXIF's orientation")
    assert "(turned.jpg)" in one.found
    (tmp_path / "train" / "b" / "turned2.jpg").write_bytes(jpeg(orientation))
    assert "2 of 6 images are turned" in only(check_data(tmp_path), "warning").found


@pytest.mark.parametrize(
    ("name", "found", "fix"),
    [
        ("a/.ipynb_checkpoints/1.jpg", "1 with a leading dot", "never read and may stay"),
        (".ipynb_checkpoints/1.jpg", "1 with a leading dot", "never read and may stay"),
        ("a/._1.jpg", "1 with a leading dot", "never read and may stay"),
        ("a/1.heic", "1 that are no images by their suffix (.heic)", "the suffix of its format"),
        ("loose.png", "1 image outside class folders", "a place in a class folder"),
    ],
)
def test_advice_on_what_is_not_read_fits_what_eval_does_with_it(
    micl_bench: Run, few_digits: Path, tmp_path: Path, name: str, found: str, fix: str
) -> None:
    data = tmp_path / "data"
    shutil.copytree(few_digits, data)
    place = data / "val" / name.replace("a/", "digit_0/", 1)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(jpeg())
    one = only(check_data(data), "warning")
    assert found in one.found
    assert fix in one.fix
    options = [*RANDOM, "--set", "pixels.img_size=32", "--set", "num_workers=0"]
    done = micl_bench("eval", "knn", *options, "--data", data, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert f"{data / 'val'}: {one.found}" in done.stderr


def test_what_is_no_data_folder_is_said(tmp_path: Path) -> None:
    assert "no such folder" in only(check_data(tmp_path / "none"), "problem").found
    assert "neither ImageNet" in only(check_data(tmp_path), "problem").found


def test_the_command_prints_findings_and_mends_and_fails(micl_bench: Run, tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG").touch()
    done = micl_bench("doctor", "--data", tmp_path, "--json", tmp_path / "found.json")
    assert done.returncode == 2
    assert done.stderr == f"error: 1 found that must be fixed: {tmp_path}/val\n"
    line = next(line for line in done.stdout.splitlines() if line.startswith("problem"))
    assert "1 file of ImageNet's, not sorted" in line
    assert "fix: put ImageNet's archives" in done.stdout
    assert (tmp_path / "found.json").is_file()


def test_names_of_files_do_not_rewrite_the_terminal(micl_bench: Run, tmp_path: Path) -> None:
    (tmp_path / "a\nproblem  b\x1b[2J" / "val").mkdir(parents=True)
    done = micl_bench("doctor", "--data", tmp_path / "a\nproblem  b\x1b[2J")
    assert done.returncode == 2
    text = done.stdout + done.stderr
    assert "\x1b" not in text
    assert not any(line.startswith("problem  b") for line in text.splitlines())
    assert "a?problem  b?[2J/val  no class folders" in text

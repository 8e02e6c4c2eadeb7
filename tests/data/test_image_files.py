"""One rule for all that list images: what is read, in which order, and what is said of the rest."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from micl_bench.data.folder import open_folder, set_and_split
from micl_bench.data.image_files import SUFFIXES, is_image_name, list_classes, name_text, shown_name
from micl_bench.data.packed.pack import make_form, pack_folder, pack_tree
from micl_bench.data.source import open_images, open_source
from micl_bench.runtime.errors import InputError


def write_images(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name, "PNG")
    return root


def test_all_suffixes_of_torchvision_count_in_any_case() -> None:
    assert set(IMG_EXTENSIONS) < SUFFIXES
    for name in ("a.jpg", "a.JPEG", "b.c.Png", "n.jfif", "n.PGM", "n.gif", "é.TIFF"):
        assert is_image_name(name), name
    for name in (".jpg", "._a.jpg", "jpg", "a.jpg.txt", "a.", "Thumbs.db", "a.jpg~", "a.npy"):
        assert not is_image_name(name), name


@pytest.mark.parametrize(
    "names",
    [
        ("a/1.png", "b/2.png"),
        ("a/1.png", "a/sub/0.png", "a/sub-x/3.png", "a/sub/y/2.png", "a/zub/1.png", "b/1.png"),
        ("b/x/y/z/1.png", "B/1.PNG", "a/10.png", "a/9.png", "é/1.pgm", "a/ 1.png"),
        ("a.jpg/1.png", "b/c.png/d.png"),
    ],
)
def test_classes_are_read_as_torchvision_reads_them(tmp_path: Path, names: tuple[str, ...]) -> None:
    write_images(tmp_path, *names)
    expected = ImageFolder(tmp_path)
    folder = open_folder(tmp_path)
    assert folder.classes == tuple(expected.classes)
    pairs = zip(map(str, folder.paths), folder.labels, strict=True)
    assert list(pairs) == expected.samples
    assert folder.left_out == ""


def test_what_is_not_read_is_counted_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path, "a/1.png", "b/2.png", "a/.ipynb_checkpoints/1.png", "a/._1.png", "3.png")
    write_images(tmp_path, ".ipynb_checkpoints/1.png")
    for name in ("a/Thumbs.db", "b/notes.txt", "b/more.txt", "README"):
        (tmp_path / name).write_text("no image")
    folder = open_folder(tmp_path)
    assert folder.names == ("a/1.png", "b/2.png")
    assert folder.classes == ("a", "b")
    line = (
        "8 entries are not read: 3 with a leading dot (.ipynb_checkpoints, a/._1.png, "
        "a/.ipynb_checkpoints); 4 that are no images by their suffix (.txt, no suffix, .db); 1 image "
        "outside class folders (3.png)"
    )
    assert folder.left_out == folder.describe().left_out == line
    assert capsys.readouterr().err.splitlines() == [f"{tmp_path}: {line}"]


def test_the_line_is_short_whatever_the_names(tmp_path: Path) -> None:
    write_images(tmp_path, "a/1.png")
    for start in "xyzvw":
        (tmp_path / "a" / f"{start * 120}.{start * 120}").touch()
        (tmp_path / "a" / f".{start}\n\x1b[31m{'é' * 100}").touch()
    left_out = open_folder(tmp_path).left_out
    assert left_out.startswith("10 entries are not read: 5 with a leading dot")
    assert left_out.isprintable()
    assert len(left_out) < 500


def test_the_digest_tells_names_and_sizes_of_the_images_that_are_read(tmp_path: Path) -> None:
    root = write_images(tmp_path / "i", "a/1.png", "b/2.png")
    digests = [open_folder(root).digest]
    write_images(root, ".x/1.png", "a/._2.png", "c.png")
    (root / "a" / "Thumbs.db").touch()
    root = root.rename(tmp_path / "elsewhere")
    assert open_folder(root).digest == digests[0]
    write_images(root, "a/deeper/1.png")
    digests.append(open_folder(root).digest)
    (root / "a" / "1.png").rename(root / "a" / "0.png")
    digests.append(open_folder(root).digest)
    with (root / "b" / "2.png").open("ab") as file:
        file.write(b"x")
    digests.append(open_folder(root).digest)
    assert len(set(digests)) == 4


def test_a_flat_folder_says_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path, "1.png", "._1.png", ".cache/2.png")
    (tmp_path / "list.csv").touch()
    source, labelled = open_images(tmp_path)
    assert not labelled
    assert source.names == ("1.png",)
    expected = (
        "3 entries are not read: 2 with a leading dot (._1.png, .cache); 1 that are no images by "
    )
    assert f"{tmp_path}: {expected}" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"holds images and folders \(1\.png, sub\)"):
        open_images(write_images(tmp_path, "sub/1.png"))


def test_a_store_knows_what_its_folder_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = write_images(tmp_path / "images", "a/1.png", "b/deeper/2.png", "a/.x/3.png", "4.png")
    packed = pack_folder(images, tmp_path / "store", layout="image", size=8)
    capsys.readouterr()
    source = open_source(packed.store.root)
    assert source.describe() == open_folder(images).describe()
    assert source.describe().left_out == open_folder(images).left_out != ""
    assert "2 entries are not read" in capsys.readouterr().err.splitlines()[0]
    assert source.names == ("a/1.png", "b/deeper/2.png")


def test_a_split_of_hidden_folders_alone_is_passed_over(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", "train/a/1.png", "test/.ipynb_checkpoints/1.png")
    packed = pack_tree(images, tmp_path / "out", make_form("image", 8))
    assert [one.store.root.name for one in packed] == ["train"]


def unix_socket(place: Path) -> None:
    # A socket's path is bounded to 107 bytes.
    os.chdir(place.parent)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(place.name)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (lambda path: path.symlink_to("/not/mounted"), "is a link to nowhere"),
    "gone.jpg": (lambda path: path.symlink_to("/not/mounted"), "is a link to nowhere"),
    "self": (
        lambda path: path.symlink_to("self"),
        "is a link that leads back to itself, or through too many others",
    ),
    "up": (lambda path: path.symlink_to(".."), "leads to a folder that is read already"),
    "root": (lambda path: path.symlink_to("/"), "leads to a folder that is read already"),
    "pipe.png": (os.mkfifo, "is no file"),
    "s.png": (unix_socket, "is no file"),
}


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.parametrize("where", ["a", "a/deeper"])
def test_what_cannot_be_listed_is_named_in_one_line(
    tmp_path: Path, name: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = write_images(tmp_path / "i", "a/1.png", "a/deeper/2.png", "b/3.png")
    make, reason = FAULTS[name]
    make(root / where / name)
    with pytest.raises(InputError) as caught:
        open_folder(root)
    assert str(caught.value) == f"{root / where / name} {reason}; replace or remove it"


def test_an_image_that_is_not_there_is_named_by_whoever_reads_images(tmp_path: Path) -> None:
    root = write_images(tmp_path, "a/1.png", "b/2.png")
    folder = open_folder(root)
    (root / "b" / "2.png").unlink()
    with pytest.raises(InputError, match=r"2\.png is no readable image"):
        folder.describe()
    (root / "b" / "2.png").symlink_to("nowhere")
    words = r"2\.png is no readable image \(No such file or directory\); replace or remove it"
    with pytest.raises(InputError, match=words):
        _ = open_folder(root, but_images=True).digest


def test_class_folders_that_are_links_are_read_or_named(tmp_path: Path) -> None:
    elsewhere = write_images(tmp_path / "elsewhere", "1.png", "2.png")
    root = write_images(tmp_path / "root", "a/1.png")
    (root / "b").symlink_to(elsewhere)
    (root / "c").symlink_to(elsewhere)
    assert open_folder(root).names == ("a/1.png", "b/1.png", "b/2.png", "c/1.png", "c/2.png")
    (root / "d").symlink_to(tmp_path / "unmounted")
    with pytest.raises(InputError, match="root/d is a link to nowhere; replace or remove it"):
        open_folder(root)
    (root / "e").symlink_to(tmp_path / "unmounted")
    with pytest.raises(InputError, match=r"root/d is a link to nowhere \(and 1 more like it\)"):
        open_folder(root)


def test_links_that_multiply_a_folder_are_named_at_once(tmp_path: Path) -> None:
    root = write_images(tmp_path / "root", "a/1.png")
    place = tmp_path / "many"
    for depth in range(20):
        (place / str(depth)).mkdir(parents=True)
        for name in ("left", "right"):
            (place / str(depth) / name).symlink_to(place / str(depth + 1))
    (place / "20").mkdir()
    (root / "a" / "many").symlink_to(place / "0")
    with pytest.raises(InputError, match=r"leads to a folder that is read already \(and 19 more"):
        open_folder(root)


def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_images(tmp_path, "a/1.png", "a/closed/2.png")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(InputError, match=r"a/closed cannot be listed \(Permission denied\)"):
        open_folder(root)


def test_an_empty_class_says_what_it_holds_instead(tmp_path: Path) -> None:
    write_images(tmp_path, "a/1.png", "b/.x/1.png")
    (tmp_path / "b" / "1.heic").touch()
    with pytest.raises(
        InputError, match=r"class folder .*/b has no image \(2 entries are not read: "
    ):
        open_folder(tmp_path)
    (tmp_path / "c").mkdir()
    with pytest.raises(InputError, match="class folder"):
        open_folder(tmp_path)


NAMES = {
    b"plain.png": "plain.png",
    "ü 日本 \u202e".encode(): "ü 日本 \u202e",
    b"back\\slash": "back\\slash",
    b"caf\xe9": "caf\\xe9",
    b"\\caf\xe9": "\\\\caf\\xe9",
    b"two\nlines\r": "two\\u000alines\\u000d",
    b"\x1b[31m": "\\u001b[31m",
    "\u2028\x85".encode(): "\\u2028\\u0085",
    b"a\\b/caf\xe9": "a\\b/caf\\xe9",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_become_one_line_of_utf_8(name: bytes) -> None:
    text = name_text(os.fsdecode(name))
    assert text == NAMES[name]
    assert text.encode().decode().splitlines() == [text]
    assert name_text(text) == text


def test_names_stay_different_or_are_refused(tmp_path: Path) -> None:
    texts = [name_text(os.fsdecode(name)) for name in NAMES]
    assert len(set(texts)) == len(texts)
    root = write_images(tmp_path, "a/1.png", os.fsdecode(b"a/caf\xe9.png"))
    assert open_folder(root).names == ("a/1.png", "a/caf\\xe9.png")
    write_images(root, "a/caf\\xe9.png")
    with pytest.raises(InputError, match=r"two names that both read a/caf\\xe9\.png; rename one"):
        open_folder(root)


def test_classes_that_are_no_utf_8_are_matched_by_name(tmp_path: Path) -> None:
    train = write_images(
        tmp_path / "train", os.fsdecode(b"caf\xe9/1.png"), "bar\nx/1.png", "z/1.png"
    )
    val = write_images(tmp_path / "val", os.fsdecode(b"caf\xe9/2.png"), "z/2.png")
    classes = open_folder(train).classes
    assert classes == ("bar\\u000ax", "caf\\xe9", "z")
    assert open_folder(val, classes=classes).labels == (1, 2)


def test_long_names_are_shortened_in_messages() -> None:
    assert shown_name("x" * 48) == "x" * 48
    assert shown_name("ab" * 100) == "ab" * 11 + "..." + "b" + "ab" * 11
    assert len(shown_name("\n" * 255)) == 48


def test_listing_opens_no_image(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "broken.png").write_text("no image")
    assert list_classes(tmp_path).classes == {"a": ("broken.png",)}


@pytest.fixture
def flowers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("flowers/train", "flowers/val", "elsewhere/held_out", "imagenet"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "flowers" / "test").symlink_to(tmp_path / "elsewhere" / "held_out")
    (tmp_path / "link").symlink_to("flowers")
    (tmp_path / "imagenet" / "set").symlink_to(tmp_path / "flowers" / "val")
    monkeypatch.chdir(tmp_path / "flowers" / "train")
    return tmp_path


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("{}/flowers/train", ("flowers", "train")),
        ("{}/flowers/val/", ("flowers", "val")),
        ("{}/flowers", ("flowers", "all")),
        ("{}/flowers/", ("flowers", "all")),
        (".", ("flowers", "train")),
        ("..", ("flowers", "all")),
        ("../val", ("flowers", "val")),
        ("../val/../train/.", ("flowers", "train")),
        ("../../flowers/val", ("flowers", "val")),
        # Links: in the place of a split, of the set, and to a split.
        ("{}/flowers/test", ("flowers", "test")),
        ("{}/link/val", ("flowers", "val")),
        ("{}/imagenet/set", ("flowers", "val")),
        ("/", ("unnamed", "all")),
    ],
)
def test_name_and_split_of_a_folder(flowers: Path, place: str, expected: tuple[str, str]) -> None:
    assert set_and_split(Path(place.format(flowers))) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("caf\udce9", "caf\\xe9"),
        ("two\nlines", "two\\u000alines"),
        ("x" * 255, f"{'x' * 22}...{'x' * 23}"),
    ],
)
def test_names_of_sets_are_short_lines_of_text(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / name / "val").mkdir(parents=True)
    assert set_and_split(tmp_path / name / "val") == (expected, "val")

"""Odd image folders, drawn by a seed: names, depth, kinds of files, links.

`odd_folder` makes `<root>/train` and `<root>/val`; each is something that a person might have, or that
a copy that went wrong may leave. Every folder holds some good images unless it was drawn to hold none.
"""

import io
import os
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random

from PIL import Image

CLASS_NAMES: tuple[bytes, ...] = (
    b"cat",
    b"dog",
    b"n01440764",
    b"001.Black_footed",
    "Tür ü".encode(),
    b"caf\xe9",
    b"two\nlines",
    b"tab\tbell\x07",
    b"quote'\"<b>&",
    b"comma, semicolon;",
    b"$(touch x)",
    b"-rf",
    b"a" * 255,
    b" space ",
    b"back\\slash",
    "\u202egpj".encode(),
    b"%s {0}",
    b"0",
    b"a.jpg",
    "é".encode(),
    "e\u0301".encode(),
)
STEMS: tuple[bytes, ...] = (
    b"1",
    b"x y",
    b"caf\xe9",
    b"\xff\xfe",
    b"line\nbreak",
    b"\x1b[31mred",
    b"n" * 240,
    b"'; drop",
    "日本".encode(),
    b"a,b",
    b"-o",
    b"dot.dot.",
    "\u2028".encode(),
    b"back\\xe9",
)
SUFFIXES: tuple[bytes, ...] = (
    b".png",
    b".jpg",
    b".JPG",
    b".JPEG",
    b".jfif",
    b".gif",
    b".pgm",
    b".webp",
    b".tif",
    b".bmp",
)
FORMATS = {".jfif": "JPEG", ".jpg": "JPEG", ".jpeg": "JPEG", ".gif": "GIF", ".pgm": "PPM"}


def image_bytes(random: Random, suffix: str = ".png") -> bytes:
    """A small image of noise in the format of a suffix."""
    side = random.choice((8, 16, 33))
    mode = "L" if suffix in (".pgm", ".gif") else "RGB"
    pixels = random.randbytes(side * side * len(mode))
    buffer = io.BytesIO()
    known = FORMATS.get(suffix, {".webp": "WEBP", ".tif": "TIFF", ".bmp": "BMP"}.get(suffix, "PNG"))
    Image.frombytes(mode, (side, side), pixels).save(buffer, known)
    return buffer.getvalue()


def odd_folder(root: Path, seed: int) -> Path:
    """Make `<root>/train` and `<root>/val`; the same seed makes the same names and bytes."""
    random = Random(seed)
    classes = [os.fsdecode(name) for name in random.sample(CLASS_NAMES, random.randint(1, 4))]
    for split in ("train", "val"):
        for name in classes:
            for _ in range(random.randint(3, 6)):
                _add_image(root / split / name, random)
        # Most copies are nearly right: a few oddities each.
        for _ in range(random.choice((0, 1, 1, 2, 4))):
            oddity = random.choice(ODDITIES)
            oddity(root / split / random.choice(classes), random)
    return root


def _add_image(place: Path, random: Random) -> None:
    suffix = os.fsdecode(random.choice(SUFFIXES))
    stem = os.fsdecode(random.choice(STEMS))
    _write(place / f"{stem}{suffix}", image_bytes(random, suffix.lower()))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(path):
        path.write_bytes(content)


def _link(target: str | Path, path: Path) -> None:
    if not os.path.lexists(path):
        path.symlink_to(target)


def _hidden(place: Path, random: Random) -> None:
    _add_image(random.choice((place, place.parent)) / ".ipynb_checkpoints", random)


def _nested(place: Path, random: Random) -> None:
    inside = random.choice(("sub", "sub.jpg", os.fsdecode(b"\xe9")))
    _add_image(place / inside / "deeper", random)


def _junk(place: Path, random: Random) -> None:
    names = (".DS_Store", "Thumbs.db", "._1.png", "notes.txt", "x", ".x")
    for name in random.sample(names, 3):
        _write(random.choice((place, place.parent)) / name, b"junk")


def _loose(place: Path, random: Random) -> None:
    _add_image(place.parent, random)


def _empty_class(place: Path, random: Random) -> None:
    (place.parent / f"empty{random.randint(0, 1)}").mkdir(exist_ok=True)


def _link_to_nowhere(place: Path, random: Random) -> None:
    name = random.choice(("broken.jpg", "broken", ".broken"))
    _link("nowhere", random.choice((place, place.parent)) / name)


def _link_in_a_circle(place: Path, random: Random) -> None:
    _link(random.choice(("..", ".", "circle", "/")), place / "circle")


def _good_links(place: Path, random: Random) -> None:
    elsewhere = place.parents[1] / "elsewhere"
    _write(elsewhere / "far.png", image_bytes(random))
    _link(elsewhere / "far.png", place / "linked.png")
    _link(elsewhere, place / "linked")


def _pipe(place: Path, random: Random) -> None:
    path = place / random.choice(("pipe.png", "pipe"))
    if not os.path.lexists(path):
        os.mkfifo(path)


def _socket(place: Path, random: Random) -> None:
    name, before = random.choice(("s.jpg", "s")), Path.cwd()
    # A socket's path is bounded to 107 bytes.
    os.chdir(place)
    try:
        if not os.path.lexists(name):
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(name)
    finally:
        os.chdir(before)


def _damaged(place: Path, random: Random) -> None:
    whole = image_bytes(random, ".jpg")
    cuts = (b"", b"no image", whole[: len(whole) // 2], whole[:-2], b"GIF89a", bytes(500))
    _write(place / "damaged.jpg", random.choice(cuts))


def _alien_class(place: Path, random: Random) -> None:
    _add_image(place.parent / os.fsdecode(b"alien\xe8"), random)


ODDITIES: tuple[Callable[[Path, Random], None], ...] = (
    _hidden,
    _nested,
    _junk,
    _loose,
    _empty_class,
    _link_to_nowhere,
    _link_in_a_circle,
    _good_links,
    _pipe,
    _socket,
    _damaged,
    _alien_class,
)

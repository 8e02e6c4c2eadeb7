"""The packed store: uncompressed pixels of a whole image folder, mapped into memory.

A folder of little-endian raw files, one row per image of the source, in the source folder's order:

    store.json     the description of the rest, with digests; written last: without it nothing is whole
    pixels.bin     uint8: patch layout (rows, L, P), image layout (rows, S, S, 3)
    labels.bin     int64 (rows,): place in the list of classes
    sizes.bin      int32 (rows, 2): width and height of the original image
    names.bin      name relative to the source folder, UTF-8, a zero byte after each
    checksums.bin  SHA-256 of each block of rows of pixels.bin

A patch's P values are ordered (channel, row, column), as the weight of the patch projection. Images
that could not be read keep their row, of zeros, and are left out by the reader. A store of strangers is
safe to read: no file name is taken from it, and every size is checked before it is used.

Shapes: N images, S pixels of a side, L patches, P values per patch, M patches taken of each image.
"""

import dataclasses
import functools
import itertools
import math
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from micl_bench.patches import unpatchify
from micl_bench.records.result import DataSet
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_json
from micl_bench.runtime.validate import built, parsed
from micl_bench.runtime.values import Fraction, Values, Within

FORMAT, VERSION = "micl-bench packed images", 1
HEADER_FILE, JOURNAL_FILE = "store.json", "journal.jsonl"
PIXELS_FILE, CHECKSUMS_FILE = "pixels.bin", "checksums.bin"
LABELS_FILE, SIZES_FILE, NAMES_FILE = "labels.bin", "sizes.bin", "names.bin"
SMALL_FILES = (LABELS_FILE, SIZES_FILE, NAMES_FILE, CHECKSUMS_FILE)
CHECKSUM_BYTES = 32

_LARGEST_SIDE = 1 << 14
_LARGEST_HEADER, _LONGEST_NAME = 1 << 28, 1 << 13
# File systems allow such a folder's name, which a data set goes by.
_LONGEST_WORD, _LONGEST_LINE = 255, 1000
# Part of the format, as a checksum is of a block.
_BLOCK_ROWS, _BLOCK_BYTES = 256, 1 << 26


@dataclasses.dataclass(frozen=True, kw_only=True)
class Form(Values):
    """The form of a row of pixels."""

    layout: Literal["patch", "image"]
    """`patch`: the evaluation's crop, patch after patch. `image`: the whole picture, squashed."""
    size: Annotated[int, Within(1, _LARGEST_SIDE)]
    """Pixels of a side."""
    patch_size: Annotated[int, Within(0, _LARGEST_SIDE)] = 0
    """Pixels of a patch's side; 0 in the image layout."""
    crop_pct: Fraction = 1.0
    """Patch layout: the evaluation crop it was cut with (data/pixels.py); 1 in the image layout."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout == "image" and (self.patch_size != 0 or self.crop_pct != 1):
            raise InputError("the image layout keeps whole pictures: give no patch size or crop")
        if self.layout == "patch" and (not self.patch_size or self.size % self.patch_size):
            raise InputError(
                f"the patch size is {self.patch_size or 'not given'}; the patch layout needs one "
                f"that divides the size, {self.size}"
            )

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Return (L, P) or (S, S, 3)."""
        if self.layout == "image":
            return self.size, self.size, 3
        return (self.size // self.patch_size) ** 2, 3 * self.patch_size**2

    @property
    def row_bytes(self) -> int:
        """Return the bytes of one image, the same in both layouts."""
        return 3 * self.size**2

    @property
    def block_rows(self) -> int:
        """Return the number of images that are packed, and checked, as one."""
        return max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // self.row_bytes))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
    """Content of store.json."""

    form: Form
    classes: tuple[str, ...]
    rows: int
    bad: tuple[tuple[int, str], ...]
    """Rows that hold no image, in ascending order, each with the reason."""
    data: DataSet
    """The source as `Folder.describe` names it; `images` counts those that are here."""
    decoder: str
    """The decoder of the images: another one may differ by a grey level here and there."""
    files: dict[str, str]
    """SHA-256 of each of `SMALL_FILES`."""

    def __post_init__(self) -> None:
        words = (self.data.name, self.data.split, self.data.stands_for, self.decoder)
        if max(map(len, words)) > _LONGEST_WORD:
            raise InputError(f"a name in it has more than {_LONGEST_WORD} characters")
        if len(self.data.left_out) > _LONGEST_LINE or not self.data.left_out.isprintable():
            raise InputError("left_out is no short line")
        if not re.fullmatch(r"[0-9a-f]{64}", self.data.digest):
            raise InputError("its data digest is no SHA-256")
        if missing := set(SMALL_FILES) - self.files.keys():
            raise InputError(f"it has no digest of {min(missing)}")
        left_out = [-1, *(row for row, _ in self.bad), self.rows]
        if any(row >= following for row, following in itertools.pairwise(left_out)):
            raise InputError("the rows left out are not among the rows")
        if not self.data.images == self.rows - len(self.bad) > 0:
            raise InputError("the number of images is not that of the rows")

    @property
    def blocks(self) -> int:
        """Return the number of blocks of rows."""
        return -(-self.rows // self.form.block_rows)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Store:
    """An open store; everything is over the images that could be read. Open it with `open_store`."""

    root: Path
    header: Header
    layout: str
    size: int
    patch_size: int
    crop_pct: float
    classes: tuple[str, ...]
    digest: str
    """The source folder's own digest: both are the same data."""
    labels_N: NDArray[np.int64]
    sizes_N2: NDArray[np.int32]
    """Width and height of the original images."""
    rows_N: NDArray[np.int64]
    """Row of `pixels` that holds each image."""
    pixels: NDArray[np.uint8]
    """(rows, L, P) or (rows, S, S, 3), mapped and read-only."""

    def __len__(self) -> int:
        return len(self.rows_N)

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process maps the files itself; pixels never travel.
        return open_store, (self.root,)

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Return each image's name relative to the source folder, `<class>/<file>`."""
        path, rows = self.root / NAMES_FILE, self.header.rows
        _check_size(path, rows, rows * _LONGEST_NAME)
        *names, rest = path.read_bytes().decode(errors="replace").split("\0")
        if len(names) != rows or rest or not all(map(_is_plain, names)):
            raise _damaged(self.root, f"{NAMES_FILE} does not hold {rows} names of files")
        return tuple(names[row] for row in self.rows_N)

    def describe(self) -> DataSet:
        """Return the data set as records name it: as the source folder."""
        return self.header.data

    def visible_patches(self, index_N: Tensor | NDArray, keep_NM: Tensor) -> Tensor:
        """Read only these patches of these images: uint8 (N, M, P). Patch layout.

        Raises:
            IndexError: an image or a patch is not there.
        """
        assert self.layout == "patch", "only the patch layout has patches to gather"
        rows, L, P = self.pixels.shape
        keep = keep_NM.numpy()
        if keep.size and not (keep.min() >= 0 and keep.max() < L):
            raise IndexError(f"patch {keep.min()} or {keep.max()} is not among {L}")
        flat_NM = self.rows_N[np.asarray(index_N), None] * L + keep
        return torch.from_numpy(self.pixels.reshape(rows * L, P).take(flat_NM, axis=0))

    def images(self, index_N: Tensor | NDArray) -> Tensor:
        """Read whole images: uint8 (N, 3, S, S)."""
        stored = self.pixels.take(self.rows_N[np.asarray(index_N)], axis=0)
        if self.layout == "image":
            return torch.from_numpy(stored).permute(0, 3, 1, 2)
        return unpatchify(torch.from_numpy(stored), self.patch_size)


def is_store(root: Path) -> bool:
    """Return whether a folder holds a packed store, finished or not, rather than image files."""
    return (root / HEADER_FILE).is_file() or (root / JOURNAL_FILE).is_file()


def open_store(root: Path) -> Store:
    """Map a packed store; cheap enough to be done by every process.

    Raises:
        InputError: there is no store, it is unfinished, of another version, or its parts do not fit.
    """
    header = read_header(root)
    form, rows = header.form, header.rows
    _check_size(root / CHECKSUMS_FILE, header.blocks * CHECKSUM_BYTES)
    _check_size(root / PIXELS_FILE, rows * form.row_bytes)
    try:
        labels = _read_array(root / LABELS_FILE, "<i8", (rows,))
        sizes = _read_array(root / SIZES_FILE, "<i4", (rows, 2))
    except MemoryError as error:
        raise _damaged(root, f"it claims {rows} images, more than fit into memory") from error
    rows_N = np.delete(np.arange(rows), [row for row, _ in header.bad])
    labels_N, sizes_N2 = labels[rows_N], sizes[rows_N]
    if labels_N.min() < 0 or labels_N.max() >= len(header.classes) or sizes_N2.min() < 1:
        raise _damaged(root, "its labels or sizes are out of range")
    shape = (rows, *form.row_shape)
    mapped = np.memmap(root / PIXELS_FILE, dtype=np.uint8, mode="r", shape=shape)
    return Store(
        root=root,
        header=header,
        **dataclasses.asdict(form),
        classes=header.classes,
        digest=header.data.digest,
        labels_N=labels_N,
        sizes_N2=sizes_N2,
        rows_N=rows_N,
        pixels=mapped,
    )


def read_header(root: Path) -> Header:
    """Read and check store.json.

    Raises:
        InputError: as `open_store`.
    """
    path = root / HEADER_FILE
    if not path.is_file():
        if (root / JOURNAL_FILE).is_file():
            raise InputError(f"{root} is not packed to the end; the same `data pack` goes on")
        raise InputError(f"no packed store at {root}; `micl-bench data pack` makes one")
    _check_size(path, 2, _LARGEST_HEADER)
    try:
        content = built(dict[str, Any], parsed(path.read_bytes()))
        if not content.keys() >= {"format", "version", "sha256"}:
            raise InputError("$ has no format, version or sha256")
        found = content.pop("format"), content.pop("version")
        if found == (FORMAT, VERSION):
            if content.pop("sha256") != digest_json(content):
                raise InputError("it was changed after it was written")
            return built(Header, content)
    except InputError as error:
        raise _damaged(root, f"{HEADER_FILE} does not describe one ({error})") from error
    raise InputError(
        f"{root} is {found[0]!r:.50}, version {found[1]!r:.50}; this program reads {FORMAT!r}, "
        f"version {VERSION}: update it, or pack the images again"
    )


def _read_array(path: Path, dtype: str, shape: tuple[int, ...]) -> NDArray:
    _check_size(path, math.prod(shape) * np.dtype(dtype).itemsize)
    return np.fromfile(path, dtype=dtype).reshape(shape)


def _check_size(path: Path, least: int, most: int | None = None) -> None:
    if not path.is_file():
        raise _damaged(path.parent, f"{path.name} is missing")
    size = path.stat().st_size
    if not least <= size <= (least if most is None else most):
        raise _damaged(path.parent, f"{path.name} has {size} bytes, needed: {least}")


def _is_plain(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


def _damaged(root: Path, what: str) -> InputError:
    return InputError(f"{root} is a damaged packed store: {what}; copy it or pack it again")

"""Named arrays of an `.npz` file of anybody: nothing in it runs, and no header takes memory on trust."""

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from micl_bench.runtime.errors import InputError

Arrays = dict[str, NDArray[Any]]

_LARGEST_BYTES = 1 << 30
"""The largest size of all arrays together: those of a whole ImageNet-C take a tenth of it."""
_SUFFIX = ".npy"


def read_npz(path: Path) -> Arrays:
    """Read every array of a file by its name, without pickle.

    Raises:
        InputError: no such file, a damaged one, one with a pickled object, or one that would take more
            than a gigabyte of memory.
    """
    if not path.is_file():
        raise InputError(
            f"{path} is {'a folder' if path.is_dir() else 'no file'}, an .npz is needed"
        )
    try:
        with zipfile.ZipFile(path) as file:
            members = file.infolist()
            if sum(member.file_size for member in members) > _LARGEST_BYTES:
                raise ValueError(f"its arrays take more than {_LARGEST_BYTES:,} bytes")
            return {_name(member): _read(file, member) for member in members}
    except InputError:
        raise
    # What a damaged zip or header raises is of a dozen kinds, and of others with each Python; memory
    # was bounded before, and nothing but bytes was read.
    except Exception as error:
        words = str(error) or type(error).__name__
        raise InputError(f"{path} is no readable .npz of arrays: {words}") from error


def _name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(_SUFFIX)


def _read(file: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with file.open(member) as header:
        _check_header(header, member)
    with file.open(member) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        # The checksum is compared at the end of the file, which an array may not reach.
        stream.read()
    return array


def _check_header(stream: IO[bytes], member: zipfile.ZipInfo) -> None:
    """Raises ValueError where the array that a header announces is not as long as what follows."""
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"{member.filename} has version {version} of the format")
    shape, _, dtype = read[version](stream)
    if dtype.hasobject:
        raise ValueError(f"{member.filename} holds pickled objects, which are never loaded")
    announced = dtype.itemsize
    for size in shape:
        announced *= size
    if min(shape, default=0) < 0 or announced != member.file_size - stream.tell():
        raise ValueError(f"{member.filename} announces {announced:,} bytes and holds others")

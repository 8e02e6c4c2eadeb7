"""Files that are no checkpoints: their kind by their first bytes, and what their user can do."""

import zipfile
from collections.abc import Iterable
from pathlib import Path

_AGAIN = "download the file itself"
_SAVE = "save the model's `state_dict()` with torch.save or as safetensors"
_UNPACK = "unpack it and give the checkpoint inside"
_OTHER = "give a checkpoint"
_LOOKED_AT = 512
_WEIGHTS = (".pth", ".pt", ".bin", ".safetensors", ".ckpt")
_THERE = f"load it there and {_SAVE}"
_NO_PAGE = f"{_AGAIN}, not the page that shows it"
_LFS = "fetch it with `git lfs pull`, or download it"
_STARTS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file it stands for", _LFS),
    (b"<!doctype html", "a web page", _NO_PAGE),
    (b"<html", "a web page", _NO_PAGE),
    (b"<?xml", "XML, such as a server sends instead of a file", _AGAIN),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"bzh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zxz\x00", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"rar!", "a RAR archive", _UNPACK),
    (b"\x89hdf\r\n\x1a\n", "an HDF5 file, as Keras and TensorFlow write them", _THERE),
    (b"\x93numpy", "a NumPy array", f"load it into the model and {_SAVE}"),
    (b"gguf", "a GGUF file", "give the checkpoint that it was made from"),
    (b"\x89png", "a picture", _OTHER),
    (b"\xff\xd8\xff", "a picture", _OTHER),
    (b"%pdf", "a PDF", _OTHER),
    (b"\x7felf", "a program", _OTHER),
)
"""Lower-case beginnings, the kind of file that has them, and the way out."""
_ONNX_PARTS = (b"pytorch", b"onnx", b"tf2onnx")
_UNKNOWN = (
    "damaged or no checkpoint: its first bytes are of no format that is known; give a file that "
    "torch.save or safetensors wrote"
)


def what_else(path: Path) -> str:
    """Say what a file is instead of a checkpoint, and what to do; empty where it may be one."""
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT)
    if not start:
        return "is empty; download or copy it again"
    lower = start.lower().lstrip(b"\xef\xbb\xbf \r\n\t")
    for beginning, kind, way_out in _STARTS:
        if start.lower().startswith(beginning) or lower.startswith(beginning):
            return f"is {kind}; {way_out}"
    # The names with which torch's files before version 0.1.10 begin are in a tar archive too.
    if b"ustar" in start[257:265]:
        return (
            f"is a tar archive; {_UNPACK}, or, where torch before 0.1.10 wrote it, load it with the "
            "code that made it and save its tensors again"
        )
    if start[4:8] == b"TFL3":
        return f"is a TensorFlow Lite model; {_SAVE}"
    if start[:1] == b"\x08" and any(part in lower for part in _ONNX_PARTS):
        return f"is an ONNX model, which is a graph; {_SAVE}"
    if path.suffix in (".index", ".meta") or ".data-0000" in path.name:
        return f"is a part of a TensorFlow checkpoint; {_THERE}"
    return ""


def unreadable(path: Path) -> str:
    """Say the same of a file that turned out to be none: text, other bytes, or damaged."""
    with path.open("rb") as file:
        start = file.read(_LOOKED_AT)
    if start[:2] == b"PK":
        return "is a zip archive that was cut or damaged; download or copy it again"
    if start[:1] == b"\x80":
        return "is damaged, or was cut; download or copy it again"
    if _is_text(start):
        return "is text; give the file with the weights"
    return f"is {_UNKNOWN}"


def what_archive(path: Path, entries: Iterable[zipfile.ZipInfo]) -> str:
    """Say what a zip archive is that torch did not write; empty where torch may have."""
    names = [entry.filename for entry in entries if not entry.is_dir()]
    if any(name.endswith("/constants.pkl") for name in names):
        return "is a TorchScript archive, which holds code; save the `state_dict()` of its model"
    if any(name.endswith(("/data.pkl", "data.pkl")) for name in names):
        return ""
    if names and all(name.endswith(".npy") for name in names):
        return f"is a NumPy .npz archive; load its arrays into the model and {_SAVE}"
    if any(name.endswith(".h5") for name in names):
        return f"is a Keras archive; {_THERE}"
    if any(
        "models/" in name or name.endswith("serialized_exported_program.json") for name in names
    ):
        return f"is a program that torch.export wrote; {_SAVE}"
    inside = [name for name in names if name.endswith(_WEIGHTS)]
    if inside:
        return f"is a zip archive around {inside[0]}; {_UNPACK}"
    return f"is a zip archive of {len(names)} files, none of them weights; give a checkpoint"


def what_folder(folder: Path) -> str:
    """Say what to do about a folder that has no `config.json` beside weights."""
    names = sorted(path.name for path in folder.iterdir())
    if any(name in ("saved_model.pb", "checkpoint") or ".data-0000" in name for name in names):
        return f"is a TensorFlow checkpoint; {_THERE}"
    if ".metadata" in names and any(name.endswith(".distcp") for name in names):
        return (
            "is a distributed checkpoint of torch; join it with `python -m "
            "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE`"
        )
    if any(name.startswith("zero_pp_rank") for name in names) or "zero_to_fp32.py" in names:
        return "is a checkpoint of DeepSpeed; join it with its own zero_to_fp32.py"
    inside = [name for name in names if name.endswith((*_WEIGHTS, ".pth.tar"))]
    if inside:
        return (
            f"is a folder without config.json; give one of its files, such as {folder / inside[0]}"
        )
    return (
        "is a folder without config.json; folders are read as Hugging Face lays them out, "
        "config.json beside model.safetensors"
    )


def _is_text(start: bytes) -> bool:
    try:
        words = start.decode("utf-8", errors="strict")
    except UnicodeDecodeError as error:
        # A character that the end of what was looked at cuts through is no sign of other bytes.
        if error.start < len(start) - 3:
            return False
        words = start[: error.start].decode("utf-8")
    return all(character.isprintable() or character in "\r\n\t\f" for character in words)

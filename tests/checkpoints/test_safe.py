"""Weights-only reading: what published files hold is read, what could run or inflate is not."""

import io
import json
import os
import re
import sys
import tarfile
import types
import zipfile
from argparse import Namespace
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.safe_reading.read import read_safely


class _OfOthers:
    """A class under another module's name, as long as a file is written."""

    def __init__(self, module: str, name: str, base: type) -> None:
        self.path = module
        self.kind = type(name, (base,), {"__module__": module})
        self.modules = [".".join(module.split(".")[: n + 1]) for n in range(module.count(".") + 1)]

    def __enter__(self) -> type:
        self.before = {name: sys.modules.get(name) for name in self.modules}
        for name in self.modules:
            sys.modules[name] = types.ModuleType(name)
        setattr(sys.modules[self.path], self.kind.__name__, self.kind)
        return self.kind

    def __exit__(self, *_: object) -> None:
        for name, module in self.before.items():
            sys.modules.pop(name)
            if module:
                sys.modules[name] = module


@pytest.mark.parametrize("as_zip", [True, False])
def test_what_trainers_write_beside_tensors_is_read(tmp_path: Path, as_zip: bool) -> None:
    path = tmp_path / "published.pth"
    written = np.arange(6.0).reshape(2, 3)
    with (
        _OfOthers("yacs.config", "CfgNode", dict) as node,
        _OfOthers("mmengine.logging.history_buffer", "HistoryBuffer", object) as buffer,
    ):
        configuration, history = node(TRAIN=node(EPOCHS=800)), buffer()
        configuration.frozen = True
        history.values = np.ones(3)
        content = {
            "model": {"a": torch.ones(2)},
            "args": Namespace(lr=np.float64(1.5), out=PurePosixPath("work/out"), steps=np.int32(7)),
            "best": np.float32(81.25),
            "table": written.T,
            "big": np.array([1, 258], dtype=">i2"),
            "config": configuration,
            "history": {"loss": history},
        }
        torch.save(content, path, _use_new_zipfile_serialization=as_zip)
    found = read_safely(path)
    assert torch.equal(found["model"]["a"], torch.ones(2))
    assert vars(found["args"]) == {"lr": 1.5, "out": "work/out", "steps": 7}
    assert found["best"] == 81.25
    assert np.array_equal(found["table"].values, written.T)
    assert found["big"].values.tolist() == [1, 258]
    assert found["config"]["TRAIN"]["EPOCHS"] == 800


@pytest.mark.parametrize("module", [b"pathlib", b"pathlib._local"])
@pytest.mark.parametrize("path", [PurePosixPath("work/out"), PureWindowsPath("work/out")])
def test_paths_are_read_whichever_python_wrote_them(
    tmp_path: Path, path: PurePath, module: bytes
) -> None:
    file = tmp_path / "any.pth"
    content = {"model": {"a": torch.ones(2)}, "out": path}
    torch.save(content, file, _use_new_zipfile_serialization=False)
    name = type(path).__name__.encode()
    text = re.sub(rb"cpathlib(\._local)?\n" + name, b"c" + module + b"\n" + name, file.read_bytes())
    assert b"c" + module + b"\n" + name in text
    file.write_bytes(text)
    assert read_safely(file)["out"] == "work/out"


def test_numpys_old_module_names_are_read_too(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"best": np.float64(2.5)}, path, _use_new_zipfile_serialization=False)
    # numpy 1 wrote `core`, numpy 2 `_core`; both are in published files.
    text = path.read_bytes()
    renamed = text.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert renamed != text
    path.write_bytes(renamed)
    assert read_safely(path)["best"] == 2.5


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (np.array(["text"]), "not read"),
        (np.array([None]), "not read"),
        (np.zeros(1, dtype=[("a", "O")]), "not read"),
        (types.SimpleNamespace(a=1), "types.SimpleNamespace"),
    ],
)
def test_other_objects_are_refused_by_name(tmp_path: Path, value: object, named: str) -> None:
    path = tmp_path / "odd.pth"
    torch.save({"model": {"a": torch.ones(1)}, "odd": value}, path)
    with pytest.raises(InputError, match=named):
        read_safely(path)


class _Call:
    """Unpickled, it would call."""

    def __init__(self, function: Any, *arguments: str) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize(
    ("function", "named"), [(os.system, "posix.system"), (eval, "eval"), (sys.exit, "sys.exit")]
)
def test_what_a_file_would_call_is_named_and_not_called(
    tmp_path: Path, as_zip: bool, function: Any, named: str
) -> None:
    path, owned = tmp_path / "evil.pth", tmp_path / "owned"
    code = f"open({str(owned)!r}, 'w')" if function is eval else f"touch {owned}"
    content = {"model": _Call(function, code)}
    torch.save(content, path, _use_new_zipfile_serialization=as_zip)
    with pytest.raises(InputError, match=f"evil.pth holds {named}, which .* could run code"):
        read_safely(path)
    assert not owned.exists()


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.eye(3).to_sparse(), "layout sparse_coo on cpu"),
        (torch.eye(3).to_sparse_csr(), "layout sparse_csr on cpu"),
        (torch.zeros(3, device="meta"), "layout strided on meta"),
    ],
)
def test_tensors_that_are_no_plain_numbers_are_refused_in_a_line(
    tmp_path: Path, tensor: torch.Tensor, words: str
) -> None:
    torch.save({"model": {"a": tensor}}, tmp_path / "odd.pth")
    with pytest.raises(InputError, match=f"holds a tensor of {words}"):
        read_safely(tmp_path / "odd.pth")


def test_a_files_first_bytes_tell_what_it_is(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(3.0)}
    save_file(tensors, tmp_path / "one.pth")
    torch.save(tensors, tmp_path / "two.safetensors")
    torch.save(tensors, tmp_path / "old.safetensors", _use_new_zipfile_serialization=False)
    for path in tmp_path.iterdir():
        assert read_safely(path)["a"].tolist() == [0, 1, 2]
    (tmp_path / "one.pth").write_bytes((tmp_path / "one.pth").read_bytes()[:-1])
    with pytest.raises(InputError, match="no readable checkpoint"):
        read_safely(tmp_path / "one.pth")


def test_archives_of_code_are_refused_clearly(tmp_path: Path) -> None:
    script, tar = tmp_path / "script.pt", tmp_path / "legacy.pth"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), script)
    with pytest.raises(InputError, match=r"TorchScript archive.*state_dict"):
        read_safely(script)
    with tarfile.open(tar, "w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    with pytest.raises(InputError, match="tar archive"):
        read_safely(tar)


def test_content_that_inflates_is_refused(tmp_path: Path) -> None:
    small, bomb = tmp_path / "small.pth", tmp_path / "bomb.pth"
    torch.save({"a": torch.zeros(1 << 20)}, small)
    with (
        zipfile.ZipFile(small) as source,
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    with pytest.raises(InputError, match="declares 41"):
        read_safely(bomb)
    stretched = tmp_path / "stretched.pth"
    torch.save({"deep": [{"a": torch.zeros(1).expand(1 << 40)}]}, stretched)
    with pytest.raises(InputError, match="1099511627776 numbers in 4 bytes"):
        read_safely(stretched)


def _folder(tmp_path: Path, **files: Any) -> Path:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    for name, tensors in files.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
    return tmp_path


def test_a_folder_gives_its_configuration_and_the_tensors_of_all_shards(tmp_path: Path) -> None:
    folder = _folder(tmp_path, one={"a": torch.ones(1)}, two={"b": torch.zeros(2)})
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found = read_safely(folder)
    assert found["config"] == {"model_type": "vit"}
    assert {name: len(value) for name, value in found["model"].items()} == {"a": 1, "b": 2}


def test_shards_may_be_links_as_in_the_cache_of_downloads(tmp_path: Path) -> None:
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshots" / "0"
    blobs.mkdir()
    folder.mkdir(parents=True)
    save_file({"a": torch.ones(1)}, blobs / "0123abcd")
    (folder / "one.safetensors").symlink_to("../../blobs/0123abcd")
    _folder(folder)
    index = {"weight_map": {"a": "one.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert read_safely(folder)["model"]["a"].tolist() == [1]


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "one.bin", ""])
def test_an_index_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a": torch.ones(1)}, tmp_path / "secret.safetensors")
    _folder(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(InputError, match=r"shards are \.safetensors files beside it"):
        read_safely(folder)


def test_folders_without_configuration_or_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"folder without config\.json"):
        read_safely(tmp_path)
    with pytest.raises(InputError, match=r"none of model\.safetensors"):
        read_safely(_folder(tmp_path))
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
    with pytest.raises(InputError, match=r"holds os\.system, which"):
        read_safely(tmp_path)

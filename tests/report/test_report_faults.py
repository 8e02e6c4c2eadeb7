"""A damaged file beside a record is named and left out; everything else of the report is made."""

import dataclasses
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from predicted_results import right, write
from support import Run
from synthetic_results import write_demo

from micl_bench.records.result import read_result, write_result
from micl_bench.report import build_report
from micl_bench.report.audit.explain import explain
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import digest_file
from micl_bench.runtime.npz import read_npz


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_text("<html>not found</html>\n" * 40, encoding="utf-8")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _arrays_of_nothing(path: Path) -> None:
    np.savez(path, a=np.zeros(3))
    path.with_name(f"{path.name}.npz").unlink(missing_ok=True)


def _wrong_lengths(path: Path) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    with path.open("wb") as out:
        np.savez(out, **{n: a[: len(a) // 2] if a.ndim == 1 else a[:1] for n, a in arrays.items()})


def _pickle(path: Path) -> None:
    with path.open("wb") as out:
        np.savez(out, files=np.array([{}], dtype=object), images_NHWC=np.array([{}], dtype=object))


def _bomb(path: Path) -> None:
    """A header of 2 TB of numbers, and a few bytes."""
    header = io.BytesIO()
    told = {"descr": "<f8", "fortran_order": False, "shape": (1 << 38,)}
    np.lib.format.write_array_header_1_0(header, told)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("files", "images_NHWC", "image"):
            file.writestr(f"{name}.npy", header.getvalue() + bytes(64))


def _bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x40
    path.write_bytes(content)


NPZ = (_cut, _empty, _text, _folder, _arrays_of_nothing, _pickle, _bomb)
LOG = (_empty, _text, _folder)


def _long(file: str, harms: Sequence[Callable[[Path], None]]) -> list[Any]:
    return [pytest.param(file, harm, marks=pytest.mark.long) for harm in harms]


def written(folder: Path) -> list[Path]:
    """Two methods with predictions of each image beside the demo's records."""
    for method, share in (("MiCL", 0.9), ("other", 0.6)):
        write(folder / method, {"top1": right(share, 0)}, method=method)
    return sorted(folder.glob("*/predictions-knn.npz"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "results"
    write_demo(folder)
    written(folder)
    return folder


@pytest.mark.parametrize(
    ("file", "harm"),
    [
        *(("MiCL/predictions-knn.npz", harm) for harm in (*NPZ, _wrong_lengths, _bit)),
        ("ade20k/predictions-MiCL.npz", _cut),
        *_long("ade20k/predictions-MiCL.npz", (*NPZ[1:], _wrong_lengths)),
        ("coco/predictions-random.npz", _wrong_lengths),
        *_long("coco/predictions-random.npz", (_cut, _pickle)),
        ("pretrain/views.npz", _bomb),
        *_long("pretrain/views.npz", (*NPZ[:-1], _bit)),
        *(("pretrain/metrics.jsonl", harm) for harm in LOG),
    ],
    ids=lambda value: value.split("/")[0] if isinstance(value, str) else value.__name__,
)
def test_a_damaged_file_is_named_and_the_rest_is_made(
    whole: Path,
    tmp_path: Path,
    file: str,
    harm: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What is drawn takes seconds; what is read and said does not.
    monkeypatch.setattr(
        "micl_bench.report.figures.all_figures.rendered", lambda *_: [_PNG, b"%PDF"]
    )
    store = tmp_path / "results"
    shutil.copytree(whole, store)
    harm(store / file)
    page = build_report(store, tmp_path / "report").read_text(encoding="utf-8")
    told = capsys.readouterr().err
    assert f"left out: {file}: " in told
    assert "Traceback" not in told
    assert "Damaged files beside records" in page
    assert file in page
    summary = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert file in summary
    # Every number is still there.
    assert "78.4" in summary
    assert "93.1" in summary


_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01"


def test_files_that_are_gone_are_counted_and_named(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "results"
    shutil.copytree(whole, store)
    for path in store.rglob("*.npz"):
        path.unlink()
    (store / "pretrain" / "metrics.jsonl").unlink()
    page = build_report(store, tmp_path / "report").read_text(encoding="utf-8")
    told = capsys.readouterr().err
    assert "8 files that records name are gone (MiCL/predictions-knn.npz, " in told
    assert "8 files that records name are gone" in page


def test_an_undamaged_store_says_nothing(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = build_report(whole, tmp_path / "report").read_text(encoding="utf-8")
    assert "left out:" not in capsys.readouterr().err
    assert "Damaged files beside records" not in page
    assert "are gone" not in page


@pytest.mark.parametrize("harm", [*NPZ, _wrong_lengths, _bit], ids=lambda harm: harm.__name__)
def test_compare_and_explain_say_it_in_one_line(
    tmp_path: Path, micl_bench: Run, harm: Callable[[Path], None]
) -> None:
    for path in written(tmp_path):
        harm(path)
    compared = micl_bench("compare", str(tmp_path / "MiCL"), str(tmp_path / "other"))
    assert compared.returncode == 2, compared.stdout
    assert len(compared.stderr.strip().splitlines()) == 1
    assert "predictions-knn.npz" in compared.stderr
    (record,) = (tmp_path / "MiCL").glob("knn-*.json")
    found = explain(read_result(record), [], [])
    assert len(found["problems"]) == 1
    (artefact,) = found["artifacts"]
    assert artefact["state"].startswith("damaged: ")


@pytest.mark.parametrize("harm", NPZ, ids=lambda harm: harm.__name__)
def test_every_reader_of_arrays_refuses_it(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, files=np.array(["a"]))
    harm(path)
    if harm is _arrays_of_nothing:
        assert list(read_npz(path)) == ["a"]
        return
    with pytest.raises(InputError, match=r"a\.npz"):
        read_npz(path)


def test_arrays_that_are_whole_are_read_as_numpy_reads_them(tmp_path: Path) -> None:
    arrays = {
        "scalar": np.array(3.5),
        "empty": np.zeros((0, 4)),
        "names": np.array(["a", "bc"]),
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "flags": np.array([True, False]),
    }
    for save, name in ((np.savez, "plain.npz"), (np.savez_compressed, "small.npz")):
        save(tmp_path / name, **arrays)
        found = read_npz(tmp_path / name)
        assert found.keys() == arrays.keys()
        for key, array in arrays.items():
            assert found[key].dtype == array.dtype
            assert np.array_equal(found[key], array)


def test_what_would_take_a_gigabyte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "zeros.npz"
    header = io.BytesIO()
    told = {"descr": "|u1", "fortran_order": False, "shape": ((1 << 30) + 1,)}
    np.lib.format.write_array_header_1_0(header, told)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open("a.npy", "w", force_zip64=True) as member,
    ):
        member.write(header.getvalue())
        for _ in range(1 << 6):
            member.write(bytes(1 << 24))
        member.write(b"\0")
    with pytest.raises(InputError, match="more than 1,073,741,824 bytes"):
        read_npz(path)


def test_a_file_edited_after_its_record_is_another(tmp_path: Path) -> None:
    store = tmp_path / "results"
    made = write(store, {"top1": right(0.9, 0)})
    path = store / "predictions-knn.npz"
    signed = dataclasses.replace(made, digests={"evidence": digest_file(path)})
    (old,) = store.glob("*.json")
    old.unlink()
    record = write_result(signed, store)
    write(store / "elsewhere", {"top1": right(0.9, 1)})
    (store / "elsewhere" / "predictions-knn.npz").replace(path)
    shutil.rmtree(store / "elsewhere")
    found = explain(read_result(record), [], [])
    assert "SHA-256 differs" in found["artifacts"][0]["state"]
    assert json.dumps(found)


@pytest.mark.long
def test_a_log_of_odd_numbers_is_drawn_without_them(tmp_path: Path) -> None:
    store = tmp_path / "results"
    write_demo(store)
    log = store / "pretrain" / "metrics.jsonl"
    odd = ['{"step": NaN, "loss": 1}', '{"step": 7, "loss": Infinity}', '{"step": 1e999}']
    odd += [f'{{"step": {10**400}, "loss": {10**400}}}', "[" * 5000, "\x00", '{"step": true}']
    log.write_text(log.read_text() + "\n".join(odd) + "\n", encoding="utf-8")
    assert build_report(store, tmp_path / "report").is_file()


@pytest.mark.long
def test_a_record_knows_what_is_wrong_whoever_asks(tmp_path: Path, micl_bench: Run) -> None:
    store = tmp_path / "results"
    write_demo(store)
    for file, picture in (
        ("ade20k/predictions-MiCL.npz", "segmentation"),
        ("coco/predictions-MiCL.npz", "detection"),
        ("pretrain/metrics.jsonl", "training"),
    ):
        _text(store / file)
        out = tmp_path / f"{picture}.png"
        shown = micl_bench("show", picture, "--results", str(store), "--out", str(out))
        assert "Traceback" not in shown.stderr
        assert Path(file).name in shown.stderr + shown.stdout

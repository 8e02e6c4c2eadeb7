"""Installations that went wrong: real packages in a folder that Python looks into first."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from micl_bench.doctor import check_installation, check_machine

# What the `openmmlab` and `report` extras install, as if it were not there.
WITHOUT_EXTRAS = """
import sys

ABSENT = {"mmengine", "mmcv", "mmseg", "mmdet"} | {"pandas", "jinja2", "matplotlib"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


def distribution(site: Path, name: str, version: str, package: str = "") -> None:
    """What pip leaves of an installed wheel."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (folder / "METADATA").write_text(text, encoding="utf-8")
    if package:
        (folder / "RECORD").write_text(f"{package}/__init__.py,,\n", encoding="utf-8")
        module(site, package, f"__version__ = {version!r}\n")


def module(site: Path, name: str, code: str) -> None:
    (site / name).mkdir(parents=True, exist_ok=True)
    (site / name / "__init__.py").write_text(code, encoding="utf-8")


def doctor(
    site: Path, tmp_path: Path, **environment: str
) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit code, and of each subject that is not well the level and what was found with its fix."""
    out = tmp_path / "found.json"
    done = subprocess.run(
        [sys.executable, "-m", "micl_bench", "doctor", "--json", str(out)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), **environment},
    )
    assert "Traceback" not in done.stderr, done.stderr
    rows = json.loads(out.read_text(encoding="utf-8"))["findings"]
    assert all(row["fix"] for row in rows if row["level"] != "ok"), rows
    found: dict[str, tuple[str, str]] = {}
    for row in (row for row in rows if row["level"] != "ok"):
        text = found.get(row["subject"], ("", ""))[1] + f"{row['found']} | {row['fix']}\n"
        found[row["subject"]] = (row["level"], text)
    return done.returncode, found


def test_an_installation_gone_wrong(tmp_path: Path) -> None:
    """Upstream beside the fork, torchvision of another channel, an old timm in front of the new."""
    site = tmp_path / "site"
    distribution(site, "mmcv", "2.2.0", "mmcv")
    distribution(site, "timm", "0.4.12")
    module(
        site,
        "torchvision",
        "raise RuntimeError('operator torchvision::nms does not exist')",
    )
    code, found = doctor(site, tmp_path)
    assert code == 2
    level, text = found["import mmcv"]
    assert level == "problem"
    assert "mmcv 2.2.0 and onedl-mmcv" in text
    assert "pip uninstall -y mmcv onedl-mmcv && pip install onedl-mmcv" in text
    level, text = found["torch and torchvision"]
    assert level == "problem"
    assert "operator torchvision::nms does not exist" in text
    assert "same --index-url" in text
    assert "0.4.12, needed >=1.0.20 | pip install --upgrade 'timm>=1.0.20'" in found["timm"][1]


def test_a_torch_that_cannot_be_imported_stops_no_other_check(tmp_path: Path) -> None:
    site = tmp_path / "site"
    module(site, "torch", "raise OSError('libcudart.so.13: cannot open shared object file')")
    (site / "sitecustomize.py").write_text(WITHOUT_EXTRAS, encoding="utf-8")
    (tmp_path / "cache").write_text("a file where the cache should be", encoding="utf-8")
    code, found = doctor(site, tmp_path, MICL_BENCH_CACHE=str(tmp_path / "cache"))
    assert code == 2
    assert "is a file" in found["cache"][1]
    assert "libcudart.so.13" in found["torch and torchvision"][1]
    assert "libcudart.so.13" in found["devices"][1]
    assert "OpenMMLab" not in found


def test_half_of_openmmlab_is_a_problem(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    half = WITHOUT_EXTRAS.replace('"mmengine", "mmcv", "mmseg", "mmdet"', '"mmdet"')
    (site / "sitecustomize.py").write_text(half, encoding="utf-8")
    module(site, "torch", "raise OSError('not needed here')")
    _, found = doctor(site, tmp_path)
    assert "mmdet missing" in found["OpenMMLab"][1]
    assert "micl-bench[openmmlab]" in found["OpenMMLab"][1]


def test_this_installation_is_well() -> None:
    findings = [*check_installation(), *check_machine()]
    assert [finding for finding in findings if finding.level == "problem"] == []
    subjects = {finding.subject for finding in findings}
    assert {"Python", "packages", "torch and torchvision", "memory", "cores", "cache"} <= subjects


def test_builds_for_different_devices_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both import and run on a CPU, yet one was built for it and the other not."""
    import torchvision

    ours = "11.8" if torchvision.version.cuda else None
    monkeypatch.setattr(torchvision.version, "cuda", ours or "13.2")
    (one,) = [f for f in check_installation() if f.subject == "torch and torchvision"]
    assert one.level == "problem"
    assert "from two channels" in one.found

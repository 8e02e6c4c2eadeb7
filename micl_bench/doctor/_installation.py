"""The packages: that they are there, new enough, and fit each other."""

import importlib
import importlib.util
import platform
import sys
from collections.abc import Iterator
from importlib import metadata

from micl_bench.data.faults import reason
from micl_bench.doctor._finding import Finding, ok, problem

_PYTHONS = ((3, 10), (3, 13))
_OPENMMLAB = {
    "mmengine": "onedl-mmengine",
    "mmcv": "onedl-mmcv",
    "mmseg": "onedl-mmsegmentation",
    "mmdet": "onedl-mmdetection",
}
_REINSTALL = (
    "pip uninstall -y torch torchvision && pip install torch torchvision; to choose a build, give both "
    "the same --index-url"
)


def check_installation() -> list[Finding]:
    """Check Python, the required packages, torch with torchvision, and OpenMMLab."""
    return [_python(), *_required(), _torchvision(), *_openmmlab()]


def _python() -> Finding:
    found, (first, last) = platform.python_version(), _PYTHONS
    if first <= sys.version_info[:2] <= last:
        return ok("Python", found)
    supported = f"{first[0]}.{first[1]} to {last[0]}.{last[1]} are supported"
    fix = f"make an environment with python{last[0]}.{last[1]} -m venv .venv"
    return problem("Python", f"{found}; {supported}", fix)


def _required() -> Iterator[Finding]:
    """Check the packages that micl-bench requires without extras."""
    try:
        from packaging.requirements import Requirement

        asked = [Requirement(text) for text in metadata.requires("micl-bench") or []]
    except ImportError as error:  # packaging is not there, or micl-bench itself is not installed
        yield problem("packages", reason(error), "pip install packaging; pip install micl-bench")
        return
    fine = []
    for needed in asked:
        if needed.marker and not needed.marker.evaluate({"extra": ""}):
            continue
        version = _version(needed.name)
        if not version:
            yield problem(needed.name, "not installed", f"pip install '{needed}'")
        elif not needed.specifier.contains(version, prereleases=True):
            fix = f"pip install --upgrade '{needed}'"
            yield problem(needed.name, f"{version}, needed {needed.specifier}", fix)
        else:
            fine.append(f"{needed.name} {version}")
    if fine:
        yield ok("packages", ", ".join(fine))


def _torchvision() -> Finding:
    """Check that torch and torchvision were built for each other: their operators load and run."""
    subject = "torch and torchvision"
    found = ", ".join(f"{name} {_version(name) or 'missing'}" for name in ("torch", "torchvision"))
    try:
        torch = importlib.import_module("torch")
        torchvision = importlib.import_module("torchvision")
        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9]])
        kept = torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9]), 0.5).tolist()
        ours, theirs = _cuda(torch.version.cuda), _cuda(torchvision.version.cuda)
    except Exception as error:  # whatever a build that does not fit raises
        return problem(subject, f"{found}: {reason(error)}", _REINSTALL)
    if kept != [1] or ours != theirs:
        channels = f"torch for {ours}, torchvision for {theirs}"
        return problem(subject, f"{found}: from two channels ({channels})", _REINSTALL)
    return ok(subject, f"{found}, both for {ours}; operators run")


def _cuda(version: object) -> str:
    """A build's CUDA version, "CPU" without one; torchvision counts 13020 for 13.2."""
    if isinstance(version, int) and version:
        return f"CUDA {version // 1000}.{version % 1000 // 10}"
    return f"CUDA {version}" if version else "CPU"


def _openmmlab() -> Iterator[Finding]:
    """Check the packages of segmentation and detection, an extra."""
    missing = [name for name in _OPENMMLAB if not _is_there(name)]
    if len(missing) == len(_OPENMMLAB):
        yield ok("OpenMMLab", "not installed; only ade20k and coco need it")
    elif missing:
        found = f"{', '.join(missing)} missing; ade20k and coco need all of it"
        yield problem("OpenMMLab", found, "pip install 'micl-bench[openmmlab]'")
    else:
        yield ok("OpenMMLab", ", ".join(f"{d} {_version(d) or '?'}" for d in _OPENMMLAB.values()))
    providers = metadata.packages_distributions()
    for name, fork in _OPENMMLAB.items():
        if len(found_in := sorted(set(providers.get(name, ())))) > 1:
            both = " and ".join(f"{one} {_version(one)}" for one in found_in)
            fix = f"pip uninstall -y {' '.join(found_in)} && pip install {fork}"
            yield problem(f"import {name}", f"{both} both install it, one over the other", fix)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _is_there(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False

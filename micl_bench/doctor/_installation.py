"""The packages: that they are there, new enough, from one source, and installed once."""

import importlib
import importlib.util
import platform
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from micl_bench.doctor._finding import Finding, ok, problem, reason, warning

_PYTHONS = ((3, 10), (3, 13))
_OPENMMLAB = {
    "mmengine": "onedl-mmengine",
    "mmcv": "onedl-mmcv",
    "mmseg": "onedl-mmsegmentation",
    "mmdet": "onedl-mmdetection",
}
_WATCHED = ("torch", "torchvision", "timm", "numpy", "PIL", "cv2", "sklearn", "scipy")
_REINSTALL = (
    "pip uninstall -y torch torchvision && pip install torch torchvision; to choose a build, give both "
    "the same --index-url"
)


def check_installation() -> list[Finding]:
    """All of it."""
    return [
        _python(),
        *_required(),
        _torchvision(),
        *_openmmlab(),
        *_double_providers(),
        *_double_versions(),
    ]


def _python() -> Finding:
    found, (first, last) = platform.python_version(), _PYTHONS
    if first <= sys.version_info[:2] <= last:
        return ok("Python", found)
    return problem(
        "Python",
        f"{found}; {first[0]}.{first[1]} to {last[0]}.{last[1]} are supported",
        f"make an environment with python{last[0]}.{last[1]} -m venv .venv",
    )


def _required() -> Iterator[Finding]:
    """What micl-bench itself asks for, without extras."""
    try:
        from packaging.requirements import Requirement

        asked = metadata.requires("micl-bench") or []
    except ImportError as error:  # packaging is not there, or micl-bench itself is not installed
        yield problem("packages", reason(error), "pip install packaging; pip install micl-bench")
        return
    fine = []
    for text in asked:
        needed = Requirement(text)
        if needed.marker and not needed.marker.evaluate({"extra": ""}):
            continue
        version = _version(needed.name)
        if not version:
            yield problem(needed.name, "not installed", f"pip install '{needed}'")
        elif not needed.specifier.contains(version, prereleases=True):
            mend = f"pip install --upgrade '{needed}'"
            yield problem(needed.name, f"{version}, needed {needed.specifier}", mend)
        else:
            fine.append(f"{needed.name} {version}")
    if fine:
        yield ok("packages", ", ".join(fine))


def _torchvision() -> Finding:
    """Whether torch and torchvision were built for each other: their operators load and run."""
    versions = {name: _version(name) or "missing" for name in ("torch", "torchvision")}
    found = ", ".join(f"{name} {version}" for name, version in versions.items())
    try:
        torch = importlib.import_module("torch")
        torchvision = importlib.import_module("torchvision")
        boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9]])
        kept = torchvision.ops.nms(boxes, torch.tensor([0.5, 0.9]), 0.5).tolist()
        builds = {
            name: _cuda(module.version.cuda)
            for name, module in (("torch", torch), ("torchvision", torchvision))
        }
    except Exception as error:  # whatever a build that does not fit raises
        return problem("torch and torchvision", f"{found}: {reason(error)}", _REINSTALL)
    if kept != [1] or builds["torch"] != builds["torchvision"]:
        told = ", ".join(f"{name} for {build}" for name, build in builds.items())
        return problem("torch and torchvision", f"{found}: from two channels ({told})", _REINSTALL)
    return ok("torch and torchvision", f"{found}, both for {builds['torch']}; operators run")


def _cuda(version: object) -> str:
    """A build's CUDA version, "CPU" without one; torchvision counts 13020 for 13.2."""
    if not version:
        return "CPU"
    if isinstance(version, int):
        return f"CUDA {version // 1000}.{version % 1000 // 10}"
    return f"CUDA {version}"


def _openmmlab() -> Iterator[Finding]:
    """Segmentation and detection, an extra; without importing any of it."""
    missing = [name for name in _OPENMMLAB if not _spec(name)]
    if missing:
        some = "" if len(missing) == len(_OPENMMLAB) else f" ({', '.join(missing)} missing)"
        yield (problem if some else ok)(
            "OpenMMLab",
            f"not installed{some}; only ade20k and coco need it",
            *(["pip install 'micl-bench[openmmlab]'"] if some else []),
        )
        return
    yield ok("OpenMMLab", ", ".join(f"{d} {_version(d) or '?'}" for d in _OPENMMLAB.values()))
    yield _operators()


def _operators() -> Finding:
    spec = _spec("mmcv")
    folders = [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    if not any(any(folder.glob("_ext*.so")) for folder in folders):
        return ok("mmcv operators", "not compiled; torchvision's stand in for nms and RoI-align")
    try:
        importlib.import_module("mmcv._ext")
    except Exception as error:  # a build for another torch fails with the linker's words
        return warning(
            "mmcv operators",
            f"compiled, but they do not load ({reason(error)}); torchvision's stand in",
            "build mmcv against this torch, or leave it: nms and RoI-align are all that is needed",
        )
    return ok("mmcv operators", "compiled, in use")


def _double_providers() -> Iterator[Finding]:
    """Two distributions that write the same package: the later install overwrote the earlier's files."""
    providers = metadata.packages_distributions()
    for name in (*_OPENMMLAB, *_WATCHED):
        found = sorted(set(providers.get(name, ())))
        # OpenCV with and without windows, in one version, are the same to us.
        if len(found) < 2 or (
            name not in _OPENMMLAB and len({_version(one) for one in found}) == 1
        ):
            continue
        listed = " and ".join(f"{one} {_version(one)}" for one in found)
        yield (problem if name in _OPENMMLAB else warning)(
            f"import {name}",
            f"{listed} both install it, one over the other",
            f"pip uninstall -y {' '.join(found)} && pip install {_OPENMMLAB.get(name, found[0])}",
        )


def _double_versions() -> Iterator[Finding]:
    """One distribution in two versions: what Python imports and what pip reports may differ."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for one in metadata.distributions():
        name = (one.metadata["Name"] or "").lower().replace("_", "-")
        place = Path(str(one.locate_file("")))
        # setuptools puts its private copies on the path when something imports pkg_resources.
        if place.name != "_vendor":
            found[name].setdefault(one.version, str(place))
    for name, places in sorted(found.items()):
        if name and len(places) > 1:
            listed = ", ".join(f"{version} in {place}" for version, place in places.items())
            yield problem(
                name,
                f"installed in {len(places)} versions: {listed}",
                f"pip uninstall -y {name}, again until it says there is none, then pip install {name}",
            )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None

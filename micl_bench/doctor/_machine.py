"""The machine: devices, memory, processor cores, disks."""

import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from micl_bench.data.faults import reason
from micl_bench.doctor._finding import Finding, ok, problem, warning
from micl_bench.runtime.files import cache_folder
from micl_bench.runtime.memory import free_memory

_GIB = 1 << 30
_LITTLE_MEMORY = 4 * _GIB
_LITTLE_DISK = 10 * _GIB
_LITTLE_SHARED = _GIB
_NVIDIA = Path("/proc/driver/nvidia/version")
_SHARED = Path("/dev/shm")


def check_machine() -> list[Finding]:
    """Check devices, memory, cores, and the disks, `/dev/shm` among them."""
    return [*_devices(), _memory(), _cores(), *_disks()]


def _devices() -> Iterator[Finding]:
    try:
        torch = importlib.import_module("torch")
        available = torch.cuda.is_available()
    except Exception as error:  # a broken torch is reported elsewhere too
        yield problem("devices", reason(error), "fix torch first")
        return
    if not available:
        yield _no_gpu(torch)
    for index in range(torch.cuda.device_count() if available else 0):
        named = torch.cuda.get_device_properties(index)
        try:
            free, total = torch.cuda.mem_get_info(index)
        except RuntimeError as error:
            fix = "nvidia-smi shows what holds it; CUDA_VISIBLE_DEVICES chooses others"
            yield problem(f"GPU {index}", f"{named.name}: {reason(error)}", fix)
            continue
        found = f"{named.name}, {free / _GIB:.1f} of {total / _GIB:.1f} GiB free"
        if named.major >= 8:
            yield ok(f"GPU {index}", f"{found}, bfloat16")
        else:
            fix = "use --set precision=fp32 (or fp16 where a recipe knows it)"
            yield warning(f"GPU {index}", f"{found}, no bfloat16 in hardware", fix)


def _no_gpu(torch: object) -> Finding:
    """Explain a missing GPU: no driver, a build without CUDA, or a driver that does not fit it."""
    built_for = torch.version.cuda  # type: ignore[attr-defined]
    if not _NVIDIA.exists():
        return ok("devices", f"no GPU driver; the CPU is used (torch for CUDA {built_for or '-'})")
    driver = _NVIDIA.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    if not built_for:
        fix = "pip uninstall -y torch torchvision && pip install torch torchvision"
        return problem("devices", f"a GPU driver ({driver}), but torch is a build for CPUs", fix)
    why = "no device is visible"
    try:
        torch.cuda.init()  # type: ignore[attr-defined]
    except Exception as error:  # the driver's own words
        why = reason(error)
    return problem(
        "devices",
        f"a GPU driver ({driver}), but torch for CUDA {built_for} cannot use it: {why}",
        "check CUDA_VISIBLE_DEVICES, then update the driver, or install a torch for an older CUDA",
    )


def _memory() -> Finding:
    usable = free_memory()
    found = f"{usable / _GIB:.1f} GiB available" if usable else "unknown on this system"
    if 0 < usable < _LITTLE_MEMORY:
        fix = "use smaller batches and --set num_workers=0, or a larger job"
        return warning("memory", found, fix)
    return ok("memory", found)


def _cores() -> Finding:
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        threads = importlib.import_module("torch").get_num_threads()
    except Exception:  # reported elsewhere
        threads = allowed
    found = f"{allowed} cores, {threads} threads per process"
    if threads <= allowed:
        return ok("cores", found)
    found += ": more threads than cores make each other wait"
    return warning("cores", found, f"export OMP_NUM_THREADS={allowed}")


def _disks() -> Iterator[Finding]:
    if _SHARED.is_dir():
        usage = shutil.disk_usage(_SHARED)
        found = f"{usage.free / _GIB:.1f} of {usage.total / _GIB:.1f} GiB free"
        if usage.free >= _LITTLE_SHARED:
            yield ok(_SHARED, found)
        else:
            yield warning(
                _SHARED,
                f"{found}: processes that read data or train together die with a bus error",
                "start the container with --shm-size=8g or --ipc=host, or use --set num_workers=0",
            )
    elsewhere = "set MICL_BENCH_CACHE to another folder"
    for subject, folder in (("cache", cache_folder()), ("work folder", Path.cwd())):
        place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(place).free
        found = f"{folder}: {free / _GIB:.1f} GiB free"
        if not place.is_dir() or not os.access(place, os.W_OK):
            why = "is not writable" if place.is_dir() else "is a file"
            fix = elsewhere if subject == "cache" else "go to another folder"
            yield problem(subject, f"{found}, but {place} {why}", fix)
        elif free < _LITTLE_DISK:
            yield warning(subject, found, f"remove what is not needed, or {elsewhere}")
        else:
            yield ok(subject, found)

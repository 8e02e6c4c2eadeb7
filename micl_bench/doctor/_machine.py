"""The machine: devices, memory, processor cores, disks."""

import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from micl_bench.doctor._finding import Finding, ok, problem, reason, warning
from micl_bench.runtime.files import cache_folder
from micl_bench.runtime.memory import free_memory

_GIB = 1 << 30
_LITTLE_MEMORY = 4 * _GIB
_LITTLE_DISK = 10 * _GIB
_LITTLE_SHARED = _GIB
_NVIDIA = Path("/proc/driver/nvidia/version")
_CGROUPS = Path("/sys/fs/cgroup")


def check_machine() -> list[Finding]:
    """All of it."""
    return [*_devices(), _memory(), _cores(), *_shared_memory(), *_disks()]


def _devices() -> Iterator[Finding]:
    try:
        torch = importlib.import_module("torch")
        available = torch.cuda.is_available()
    except Exception as error:  # a broken torch is told elsewhere too
        yield problem("devices", reason(error), "mend torch first")
        return
    if not available:
        yield _no_gpu(torch)
        return
    for index in range(torch.cuda.device_count()):
        named = torch.cuda.get_device_properties(index)
        try:
            free, total = torch.cuda.mem_get_info(index)
        except RuntimeError as error:
            mend = "nvidia-smi shows what holds it; CUDA_VISIBLE_DEVICES chooses others"
            yield problem(f"GPU {index}", f"{named.name}: {reason(error)}", mend)
            continue
        found = f"{named.name}, {free / _GIB:.1f} of {total / _GIB:.1f} GiB free"
        if named.major >= 8:
            yield ok(f"GPU {index}", f"{found}, bfloat16")
        else:
            mend = "use --set precision=fp32 (or fp16 where a recipe knows it)"
            yield warning(f"GPU {index}", f"{found}, no bfloat16 in hardware", mend)


def _no_gpu(torch: object) -> Finding:
    """Why there is none: no driver, a build without CUDA, or a driver that does not fit the build."""
    built_for = torch.version.cuda  # type: ignore[attr-defined]
    if not _NVIDIA.exists():
        return ok("devices", f"no GPU driver; the CPU is used (torch for CUDA {built_for or '-'})")
    driver = _NVIDIA.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    if not built_for:
        return problem(
            "devices",
            f"a GPU driver ({driver}), but torch is a build for CPUs",
            "pip uninstall -y torch torchvision && pip install torch torchvision",
        )
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
    if not usable:
        return ok("memory", "unknown on this system")
    found = f"{usable / _GIB:.1f} GiB available"
    if usable < _LITTLE_MEMORY:
        return warning(
            "memory", found, "use smaller batches and --set num_workers=0, or a larger job"
        )
    return ok("memory", found)


def _cores() -> Finding:
    allowed = _allowed_cores()
    setting = os.environ.get("OMP_NUM_THREADS", "")
    try:
        threads = importlib.import_module("torch").get_num_threads()
    except Exception:  # told elsewhere
        threads = int(setting) if setting.isdigit() else allowed
    found = f"{allowed} cores, {threads} threads a process"
    if threads <= allowed:
        return ok("cores", found + (f" (OMP_NUM_THREADS={setting})" if setting else ""))
    return warning(
        "cores",
        f"{found}: more threads than cores make each other wait",
        f"export OMP_NUM_THREADS={allowed}",
    )


def _allowed_cores() -> int:
    """Cores that this process may use, by affinity and by the control group's quota."""
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    quota = _read(_CGROUPS / "cpu.max").split() or [
        _read(_CGROUPS / "cpu" / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
    ]
    if len(quota) == 2 and all(number.isdigit() for number in quota):
        cores = min(cores, max(int(quota[0]) // int(quota[1]), 1))
    return cores


def _shared_memory() -> Iterator[Finding]:
    place = Path("/dev/shm")
    if not place.is_dir():
        return
    usage = shutil.disk_usage(place)
    found = f"{usage.free / _GIB:.1f} of {usage.total / _GIB:.1f} GiB free"
    if usage.free < _LITTLE_SHARED:
        yield warning(
            "/dev/shm",
            f"{found}: processes that read data or train together die with a bus error",
            "start the container with --shm-size=8g or --ipc=host, or use --set num_workers=0",
        )
    else:
        yield ok("/dev/shm", found)


def _disks() -> Iterator[Finding]:
    cache = cache_folder()
    for subject, folder in (("cache", cache), ("work folder", Path.cwd())):
        place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        free = shutil.disk_usage(place).free
        size = f", {_size(folder) / _GIB:.2f} GiB used" if subject == "cache" else ""
        found = f"{folder}: {free / _GIB:.1f} GiB free{size}"
        if not place.is_dir() or not os.access(place, os.W_OK):
            mend = (
                "set MICL_BENCH_CACHE to another folder" if subject == "cache" else "go elsewhere"
            )
            why = "is not writable" if place.is_dir() else "is a file"
            yield problem(subject, f"{found}, but {place} {why}", mend)
        elif free < _LITTLE_DISK:
            mend = "remove what is not needed, or set MICL_BENCH_CACHE to a folder on a larger disk"
            yield warning(subject, found, mend)
        else:
            yield ok(subject, found)


def _size(folder: Path) -> int:
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(root) / name).st_size
            except OSError:
                continue
    return total


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""

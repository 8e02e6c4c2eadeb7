"""The memory that is left to programs on this machine, inside its control groups."""

from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_CGROUPS_OF_THIS = Path("/proc/self/cgroup")
_MEMORY = Path("/proc/meminfo")
# Version 1 writes a huge number where version 2 writes "max".
_NO_LIMIT = 1 << 60


def free_memory() -> int:
    """Return the bytes that can still be taken; 0 where the system does not say.

    They are what the kernel calls available or, if that is less, what the tightest control group leaves.
    Files that were read and could be read again count as free in both.
    """
    kernel = _numbers(_MEMORY, "MemAvailable:").get("MemAvailable:", 0) * 1024
    amounts = [kernel, *_left_by_control_groups()]
    return min((amount for amount in amounts if amount), default=0)


def _left_by_control_groups() -> list[int]:
    left = []
    for line in _read(_CGROUPS_OF_THIS).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            root, names = _CGROUPS, ("memory.max", "memory.current", "inactive_file", "active_file")
        elif "memory" in controllers.split(","):
            root = _CGROUPS / "memory"
            names = (
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
                "total_active_file",
            )
        else:
            continue
        # A container sees its own group at the root, whatever the path says; any above may be tighter.
        own = root / path.lstrip("/")
        left += [
            _left_by(place, names) for place in {own, *own.parents} if place.is_relative_to(root)
        ]
    return left


def _left_by(place: Path, names: tuple[str, ...]) -> int:
    """Return the bytes that a control group leaves: 0 without a limit, else at least 1."""
    limit, used = (_read(place / name).strip() for name in names[:2])
    if not (limit.isdigit() and used.isdigit()) or int(limit) >= _NO_LIMIT:
        return 0
    files = sum(_numbers(place / "memory.stat", *names[2:]).values())
    return max(int(limit) - int(used) + files, 1)


def _numbers(path: Path, *names: str) -> dict[str, int]:
    """Read the numbers of these names from lines `name number ...`."""
    rows = [line.split() for line in _read(path).splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[0] in names}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""

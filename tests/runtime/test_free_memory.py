"""Free memory as control groups of both versions leave it."""

from pathlib import Path

import pytest

from micl_bench.runtime import memory as machine

GIB = 1 << 30


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GiB available, without control groups yet."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {8 * GIB // 1024} kB\n")
    monkeypatch.setattr(machine, "_MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(machine, "_CGROUPS_OF_THIS", tmp_path / "own")
    return tmp_path


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def test_without_a_limit_it_is_what_the_kernel_says(system: Path) -> None:
    assert machine.free_memory() == 8 * GIB
    (system / "own").write_text("0::/job\n")
    group(system / "cgroup/job", memory__max="max", memory__current=GIB)
    assert machine.free_memory() == 8 * GIB


def test_the_tightest_group_counts_and_files_in_memory_are_free(system: Path) -> None:
    (system / "own").write_text("0::/job/step\n")
    stat = f"anon 5\ninactive_file {GIB}\nactive_file {GIB}"
    group(system / "cgroup/job", memory__max=6 * GIB, memory__current=5 * GIB, memory__stat=stat)
    group(system / "cgroup/job/step", memory__max=7 * GIB, memory__current=GIB, memory__stat="")
    assert machine.free_memory() == 3 * GIB


def test_version_1(system: Path) -> None:
    (system / "own").write_text("9:name=systemd:/\n4:cpu,memory:/job\n")
    group(
        system / "cgroup/memory/job",
        memory__limit_in_bytes=4 * GIB,
        memory__usage_in_bytes=3 * GIB,
        memory__stat=f"total_inactive_file {GIB}\ninactive_file 7",
    )
    group(
        system / "cgroup/memory",
        memory__limit_in_bytes=9223372036854771712,
        memory__usage_in_bytes=GIB,
    )
    assert machine.free_memory() == 2 * GIB


def test_a_container_sees_its_group_at_the_root(system: Path) -> None:
    (system / "own").write_text("0::/docker/not-visible-here\n")
    group(system / "cgroup", memory__max=2 * GIB, memory__current=3 * GIB)
    assert machine.free_memory() == 1


def test_a_system_that_does_not_tell(system: Path) -> None:
    (system / "meminfo").unlink()
    assert machine.free_memory() == 0

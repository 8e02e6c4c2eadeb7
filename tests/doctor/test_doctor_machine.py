"""Machines with little: limits of control groups, more threads than cores, drivers that do not fit."""

import os
from pathlib import Path

import pytest
import torch

from micl_bench.doctor import Finding, _machine, check_machine
from micl_bench.runtime import memory as machine

GIB = 1 << 30


def found(subject: str) -> Finding:
    (one,) = [finding for finding in check_machine() if finding.subject == subject]
    return one


@pytest.mark.parametrize(("left", "level"), [(2, "warning"), (40, "ok")])
def test_the_control_groups_limit_counts_not_the_machines_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, left: int, level: str
) -> None:
    memory, own, group = tmp_path / "meminfo", tmp_path / "own", tmp_path / "jobs" / "7"
    memory.write_text(f"MemAvailable: {50 * GIB // 1024} kB\n", encoding="utf-8")
    own.write_text("0::/jobs/7\n", encoding="utf-8")
    group.mkdir(parents=True)
    (group / "memory.max").write_text(f"{(left + 1) * GIB}\n", encoding="utf-8")
    (group / "memory.current").write_text(f"{GIB}\n", encoding="utf-8")
    monkeypatch.setattr(machine, "_MEMORY", memory)
    monkeypatch.setattr(machine, "_CGROUPS_OF_THIS", own)
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    one = found("memory")
    assert (one.level, one.found) == (level, f"{left}.0 GiB available")


def test_threads_are_held_against_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        one = found("cores")
    finally:
        torch.set_num_threads(before)
    assert one.level == "warning"
    assert one.found.startswith("1 cores, 2 threads per process")
    assert one.fix == "export OMP_NUM_THREADS=1"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU that works")
def test_a_driver_that_torch_cannot_use_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    driver = tmp_path / "version"
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.57\n", encoding="utf-8")
    monkeypatch.setattr(_machine, "_NVIDIA", driver)
    one = found("devices")
    assert one.level == "problem"
    assert "470.57" in one.found
    assert one.fix


def test_low_disks_and_shared_memory_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_machine, "_LITTLE_DISK", 1 << 60)
    monkeypatch.setattr(_machine, "_LITTLE_SHARED", 1 << 60)
    assert found("cache").level == found("work folder").level == "warning"
    assert "--shm-size" in found("/dev/shm").fix


def test_a_cache_that_is_not_there_yet_is_no_trouble(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MICL_BENCH_CACHE", str(tmp_path / "not" / "yet"))
    assert "GiB free" in found("cache").found
    assert not (tmp_path / "not").exists()

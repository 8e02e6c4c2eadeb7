"""Without a network: `timm:` and `public:` say so within seconds, and read what is in the cache."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub.constants
import pytest
from test_timm_source import _fill_cache

from micl_bench.checkpoints import load_checkpoint
from micl_bench.runtime import network
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.network import UnreachableError, check_reachable, check_source

SLOWEST = 5.0


@contextmanager
def deaf_server() -> Iterator[str]:
    """An address whose queue of connections is full: nobody answers there."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        try:
            yield f"https://127.0.0.1:{address[1]}"
        finally:
            for one in waiting:
                one.close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_a_server_that_does_not_answer_is_given_up_within_seconds() -> None:
    with deaf_server() as url:
        began = time.monotonic()
        with pytest.raises(UnreachableError, match=r"no answer|timed out"):
            check_reachable(url)
        assert time.monotonic() - began < SLOWEST


def test_a_look_up_that_never_ends_is_given_up_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: ended.wait(60) and [])
    began = time.monotonic()
    try:
        with pytest.raises(UnreachableError, match="no answer"):
            check_reachable("https://huggingface.co")
    finally:
        ended.set()
    assert time.monotonic() - began < SLOWEST


def test_a_proxy_that_is_not_there_is_what_was_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
    with pytest.raises(UnreachableError, match="refused"):
        check_reachable("https://example.org/file")


@pytest.mark.parametrize("source", ["timm:vit_tiny_patch16_224", "public:mae_vit_base"])
def test_sources_without_a_network_are_refused_in_a_line(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("MICL_BENCH_CACHE", str(tmp_path))

    def fails(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", fails)
    with pytest.raises(InputError, match=r"was not reached \(Name or service not known\); without"):
        load_checkpoint(source)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    if source.startswith("timm"):
        with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
            load_checkpoint(source)


COMMANDS = (
    ("eval", "knn", "--data", "data", "--out", "out", "--checkpoint"),
    ("features", "--images", "data", "--out", "f.npz", "--checkpoint"),
    ("show", "attention", "--images", "data", "--out", "a.png", "--checkpoint"),
    ("inspect",),
)


@pytest.mark.parametrize(
    "command",
    [COMMANDS[0], *(pytest.param(one, marks=pytest.mark.long) for one in COMMANDS[1:])],
    ids=lambda words: words[0],
)
def test_commands_refuse_before_anything_slow_is_imported(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    with deaf_server() as url:
        done = _run_without_a_network([*command, "timm:vit_small_patch16_224"], tmp_path, proxy=url)
    *imports, error = done.stderr.splitlines()
    assert done.returncode == 2
    assert error.startswith("error: the weights of vit_small_patch16_224 are not in the cache, and")
    assert "without a network, download them elsewhere and give the file" in error
    # Their imports alone take longer than an answer may.
    assert any(line.endswith("micl_bench.runtime.network") for line in imports)
    assert not [line for line in imports if line.split()[-1] in {"torch", "timm", "torchvision"}]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.long
def test_where_something_was_downloaded_timm_is_asked_for_its_name(tmp_path: Path) -> None:
    _fill_cache("test_vit3.r160_in1k", tmp_path / "home" / "hub")
    with deaf_server() as url:
        done = _run_without_a_network(["inspect", "timm:test_vit3.r160_in1k"], tmp_path, proxy=url)
    assert done.returncode == 0
    assert "test_vit3" in done.stdout


def test_one_server_that_answers_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(network, "check_reachable", _only_reaches("dl.fbaipublicfiles.com"))
    assert check_source("timm:vit_huge_patch14_gap_224.in1k_ijepa").startswith("timm:vit_huge")
    monkeypatch.setattr(network, "check_reachable", _only_reaches("nowhere"))
    with pytest.raises(InputError, match=r"huggingface.co was not reached \(refused\); without"):
        check_source("timm:vit_huge_patch14_gap_224.in1k_ijepa")
    assert check_source("random:vit_tiny_patch16_224") == "random:vit_tiny_patch16_224"
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "IN1K-vit.h.14-300e.pth.tar").touch()
    assert check_source("timm:vit_huge_patch14_gap_224.in1k_ijepa").startswith("timm:vit_huge")


def _only_reaches(host: str) -> Callable[[str], None]:
    def check(url: str) -> None:
        if host not in url:
            raise UnreachableError("refused")

    return check


def _run_without_a_network(
    words: list[str], folder: Path, *, proxy: str
) -> subprocess.CompletedProcess[str]:
    home = folder / "home"
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "micl_bench", *words],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HTTPS_PROXY": proxy.replace("https", "http"),
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_what_is_in_the_cache_is_read_without_asking_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(socket, "create_connection", asked)
    monkeypatch.setattr(socket.socket, "connect", asked)
    _fill_cache("test_vit3.r160_in1k", tmp_path)
    assert load_checkpoint("timm:test_vit3.r160_in1k").method == "test_vit3.r160_in1k"
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False

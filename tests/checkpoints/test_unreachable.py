"""Without a network: `timm:` and `public:` say so within seconds, and read what is in the cache."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub.constants
import pytest
from test_timm_source import _fill_cache

from micl_bench.checkpoints import load_checkpoint
from micl_bench.checkpoints._reach import UnreachableError, check_reachable
from micl_bench.errors import InputError

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

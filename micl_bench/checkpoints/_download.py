"""One file over HTTPS, by pooch: whole and with the published digest, or not at all."""

import contextlib
import hashlib
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import Progress, say
from micl_bench.runtime.network import UnreachableError, check_reachable

_BLOCK_BYTES = 1 << 20
# Between tries.
_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0)
_PASSING = (408, 429, 500, 502, 503, 504)


def matches(path: Path, digest: str) -> bool:
    """Whether a file has a published digest `ALGORITHM:HEX`, HEX being all of it or its beginning."""
    algorithm, _, published = digest.partition(":")
    found = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found.update(block)
    return found.hexdigest().startswith(published.lower())


def download(url: str, target: Path, *, digest: str = "", plain_http_host: str = "") -> None:
    """Bring a file to `target`, which appears once it is whole; a cut download starts over.

    Args:
        digest: as `matches` reads it; empty where none is published.
        plain_http_host: `host:port` that may be asked without TLS, such as a server on this machine.

    Raises:
        UnreachableError: no connection, or it broke again and again.
        InputError: refused by the server, redirected away from HTTPS, wrong digest, too large.
    """
    if not _is_allowed(url, plain_http_host):
        raise InputError(f"{url} is no HTTPS address; refused")
    check_reachable(url)
    part = target.with_name(f"{target.name}.part")
    try:
        _receive(url, part, target.name, plain_http_host)
        if digest and not matches(part, digest):
            raise InputError(
                f"what {url} sent has not the published digest {digest}; it was removed. "
                "Try again; if that does not help, the file was changed or something is in between"
            )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _receive(url: str, part: Path, name: str, plain_http_host: str) -> None:
    import requests
    from pooch import HTTPDownloader

    def look_at(answer: requests.Response, **_: Any) -> None:
        """Of each answer, redirects included, before a byte of it is read."""
        leads = urljoin(answer.url, answer.headers.get("Location", ""))
        if answer.is_redirect and not _is_allowed(leads, plain_http_host):
            raise InputError(f"{url} leads to {leads}, which is no HTTPS address; refused")
        if answer.ok:
            _check_space(part.parent, name, int(answer.headers.get("Content-Length", 0)))

    for pause in (*_PAUSES_SECONDS, None):
        bar = _Bar(name)
        with contextlib.closing(bar):
            try:
                HTTPDownloader(
                    progressbar=bar,
                    chunk_size=_BLOCK_BYTES,
                    headers={"Accept-Encoding": "identity"},
                    hooks={"response": look_at},
                )(url, str(part), None)
                return
            except requests.RequestException as error:
                answer = error.response
                if answer is not None and answer.status_code not in _PASSING:
                    status = f"{answer.status_code} ({answer.reason})"
                    raise InputError(f"{url} answers HTTP {status}") from error
                reason = f"HTTP {answer.status_code}" if answer is not None else _gist(error)
                if pause is None:
                    raise UnreachableError(reason) from error
        say(f"{name}: the connection broke ({reason}); trying again")
        time.sleep(pause)


class _Bar:
    """What pooch tells of a download, as one of our bars: a step is a block."""

    total = 0
    """Bytes; pooch sets it, 0 where the server does not say."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._shown = contextlib.ExitStack()
        self._progress: Progress | None = None

    def update(self, count: int) -> None:
        """Count bytes."""
        if self._progress is None:
            blocks = -(-self.total // _BLOCK_BYTES)
            bar = Progress(self._label, total=blocks, quiet=not self.total)
            self._progress = self._shown.enter_context(bar)
        if self._progress.done < self._progress.total:
            self._progress.step(f"{self._progress.done + 1} MiB")

    def reset(self) -> None:
        """Pooch fills a bar at the end; this one is full."""

    def close(self) -> None:
        """Leave the terminal."""
        self._shown.close()


def _is_allowed(url: str, plain_http_host: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (
        parts.scheme == "http" and bool(plain_http_host) and parts.netloc == plain_http_host
    )


def _check_space(folder: Path, name: str, total: int) -> None:
    free = shutil.disk_usage(folder).free
    if total > free:
        raise InputError(
            f"{name} is said to have {total / 1e9:,.1f} GB, {folder} has room for "
            f"{free / 1e9:,.1f} GB; set MICL_BENCH_CACHE to a larger disk"
        )


def _gist(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

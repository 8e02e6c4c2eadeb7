"""Public checkpoints by name: their table, and their download.

A download is whole and with the published digest, or not at all: over HTTPS, by pooch.
"""

import contextlib
import csv
import dataclasses
import difflib
import functools
import hashlib
import re
import shutil
import time
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from micl_bench.runtime import distributed
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import writable_cache
from micl_bench.runtime.locks import alone
from micl_bench.runtime.log import Progress, say
from micl_bench.runtime.network import UnreachableError, check_reachable

# In a checkout a link to results/checkpoints.csv, in an installed package its copy.
_TABLE = Path(__file__).with_name("checkpoints.csv")
_BLOCK_BYTES = 1 << 20
# Between tries.
_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0)
_PASSING = (408, 429, 500, 502, 503, 504)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublicCheckpoint:
    """One row of results/checkpoints.csv."""

    name: str
    """NAME in `public:NAME`."""
    method: str
    arch: str
    """timm's name, or in its manner."""
    format: str
    """Its name in `micl-bench list formats`."""
    url: str
    """Address of the file; where access is not open, of the page to get it from."""
    access: str
    """`open`, `gated` (its owner asks who you are) or `by hand` (a page, no plain file)."""
    digest: str
    """`ALGORITHM:HEX` as its owner published it, often only the beginning; empty where none is."""
    licence: str
    paper: str
    source: str
    """The page that the row was read from."""

    @property
    def file_name(self) -> str:
        """The file's name in the cache."""
        found = re.search(r"\.(pth\.tar|pth|pt|safetensors)$", urlsplit(self.url).path)
        return f"{self.name}.{found.group(1) if found else 'pth'}"

    def is_in(self, path: Path) -> bool:
        """Return whether a file has the published digest, or there is none."""
        if not self.digest:
            return True
        algorithm, _, published = self.digest.partition(":")
        found = hashlib.new(algorithm, usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                found.update(block)
        return found.hexdigest().startswith(published.lower())


@functools.cache
def public_checkpoints() -> dict[str, PublicCheckpoint]:
    """Return all public checkpoints by name, in the table's order.

    Raises:
        InputError: the table is missing from the installation.
    """
    try:
        with _TABLE.open(encoding="utf-8", newline="") as file:
            rows = [PublicCheckpoint(**row) for row in csv.DictReader(file)]
    except (OSError, TypeError) as error:
        raise InputError(f"the table of public checkpoints is damaged ({error})") from error
    return {row.name: row for row in rows}


def known_public(name: str) -> PublicCheckpoint:
    """Return the row of a name.

    Raises:
        InputError: there is no such name.
    """
    known = public_checkpoints()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        meant = f" Did you mean {', '.join(near)}?" if near else ""
        raise InputError(
            f"no public checkpoint is called {name!r};{meant} `micl-bench list checkpoints` lists them"
        )
    return known[name]


def fetch(name: str) -> tuple[Path, PublicCheckpoint]:
    """Return the file of a public checkpoint, downloaded if it is not in the cache, and its row.

    Of processes that work together the first one downloads and the others wait. A machine that does not
    see the first one's cache downloads its own copy.

    Raises:
        InputError: there is no such name, no network or no open access, or the file has another
            digest than the published one.
    """
    row = known_public(name)
    path, failure = None, ""
    if distributed.rank() == 0:
        try:
            path = fetch_row(row)
        except (InputError, OSError) as error:
            failure = str(error)
    if failure := distributed.from_first(failure):
        raise InputError(failure)
    return path or fetch_row(row), row


def fetch_row(row: PublicCheckpoint, *, plain_http_host: str = "") -> Path:
    """Return the file of a row, downloaded by this process if it is not in the cache.

    Args:
        plain_http_host: `host:port` that may be asked without TLS, such as a server on this machine.
    """
    folder = writable_cache("checkpoints")
    target = folder / row.file_name
    with alone(folder, "downloading into", on_wait=say):
        if target.is_file():
            if not row.is_in(target):
                raise InputError(
                    f"{target} does not have {row.name}'s published digest {row.digest}; remove it to "
                    "download it again"
                )
            return target
        if row.access != "open":
            why = "has to be asked for" if row.access == "gated" else "is on a page for people"
            raise InputError(
                f"{row.name} {why}: get it at {row.url} ({row.licence}) and put it at {target}"
            )
        say(f"{row.name}: {row.url} (licence: {row.licence})")
        try:
            _download(row, target, plain_http_host)
        except UnreachableError as error:
            raise InputError(
                f"{urlsplit(row.url).netloc} was not reached ({error}); without a network, download "
                f"{row.url} elsewhere and put it at {target}"
            ) from error
    return target


def _download(row: PublicCheckpoint, target: Path, plain_http_host: str) -> None:
    """Bring a file to `target`, which appears once it is whole; a cut download starts over.

    Raises:
        UnreachableError: there is no connection, or it broke again and again.
        InputError: the server refuses or leads away from HTTPS; the file is too large or has another
            digest.
    """
    url = row.url
    if not _is_allowed(url, plain_http_host):
        raise InputError(f"{url} is no HTTPS address; refused")
    check_reachable(url)
    part = target.with_name(f"{target.name}.part")
    try:
        _receive(url, part, target.name, plain_http_host)
        if not row.is_in(part):
            raise InputError(
                f"the file from {url} does not have the published digest {row.digest}; it was removed. "
                "Try again; if that does not help, the file was changed or something is in between"
            )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _receive(url: str, part: Path, name: str, plain_http_host: str) -> None:
    import requests
    from pooch import HTTPDownloader

    def look_at(answer: requests.Response, **_: Any) -> None:
        """Check each answer, redirects included, before a byte of it is read."""
        leads = urljoin(answer.url, answer.headers.get("Location", ""))
        if answer.is_redirect and not _is_allowed(leads, plain_http_host):
            raise InputError(f"{url} leads to {leads}, which is no HTTPS address; refused")
        total = int(answer.headers.get("Content-Length", 0)) if answer.ok else 0
        if total > (free := shutil.disk_usage(part.parent).free):
            raise InputError(
                f"{name} has {total / 1e9:,.1f} GB, {part.parent} has room for "
                f"{free / 1e9:,.1f} GB; set MICL_BENCH_CACHE to a larger disk"
            )

    for pause in (*_PAUSES_SECONDS, None):
        with contextlib.closing(_Bar(name)) as bar:
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
                gist = " ".join(str(error).split())[:200] or type(error).__name__
                reason = gist if answer is None else f"HTTP {answer.status_code}"
                if pause is None:
                    raise UnreachableError(reason) from error
        say(f"{name}: the connection broke ({reason}); trying again")
        time.sleep(pause)


class _Bar:
    """A progress bar for pooch, a step per block."""

    total = 0
    """Bytes in all, which pooch sets; 0 where the server does not state them."""

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
        """Do nothing: pooch fills a bar at the end, and this one is full."""

    def close(self) -> None:
        """End the bar."""
        self._shown.close()


def _is_allowed(url: str, plain_http_host: str) -> bool:
    parts = urlsplit(url)
    is_plain = parts.scheme == "http" and bool(plain_http_host) and parts.netloc == plain_http_host
    return parts.scheme == "https" or is_plain

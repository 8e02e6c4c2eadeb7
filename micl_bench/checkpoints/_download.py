"""One file over HTTPS: resumed where it was cut, never half written, never over anything but HTTPS."""

import dataclasses
import hashlib
import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from email.message import Message
from http import HTTPStatus
from pathlib import Path
from typing import Any

from micl_bench import __version__
from micl_bench.checkpoints._https import RefusedRedirectError, https_opener, is_allowed
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_write
from micl_bench.runtime.log import Progress, say
from micl_bench.runtime.network import UnreachableError, check_reachable

_BLOCK_BYTES = 1 << 20
# No public ViT comes near it: whoever sends more, sends something else.
_LARGEST_BYTES = 64 << 30
_TIMEOUT_SECONDS = 30.0
# Between tries that brought nothing; a try that brought bytes starts the count anew.
_PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0)
_PASSING = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


class _BrokenError(Exception):
    """The connection failed; a further try may help."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Part:
    """What is known of a file that is partly here: resumed only if the server still means the same."""

    url: str
    validator: str = ""
    """ETag or date of change; without one the file starts over."""
    total: int | None = None


def matches(path: Path, digest: str) -> bool:
    """Whether a file has a published digest `ALGORITHM:HEX`, HEX being all of it or its beginning."""
    algorithm, _, published = digest.partition(":")
    found = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            found.update(block)
    return found.hexdigest().startswith(published.lower())


def download(url: str, target: Path, *, digest: str = "", plain_http_host: str = "") -> None:
    """Bring a file to `target`; called again after a cut, it goes on where it was.

    Args:
        digest: as `matches` reads it; empty where none is published.
        plain_http_host: `host:port` that may be asked without TLS, such as a server on this machine.

    Raises:
        UnreachableError: no connection, or it broke again and again; what came is kept.
        InputError: refused by the server, redirected away from HTTPS, wrong digest, too large.
    """
    if not is_allowed(url, plain_http_host):
        raise InputError(f"{url} is no HTTPS address; refused")
    check_reachable(url)
    part = target.with_name(f"{target.name}.part")
    opener = https_opener(plain_http_host)
    failures = 0
    while True:
        before = _size(part)
        try:
            _receive(opener, url, part)
            break
        except _BrokenError as error:
            failures = 0 if _size(part) > before else failures + 1
            if failures > len(_PAUSES_SECONDS):
                raise UnreachableError(str(error)) from error
            time.sleep(_PAUSES_SECONDS[max(failures - 1, 0)])
            say(f"{target.name}: the connection broke ({error}); going on")
    if digest and not matches(part, digest):
        _drop(part)
        raise InputError(
            f"what {url} sent has not the published digest {digest}; it was removed. "
            "Try again; if that does not help, the file was changed or something is in between"
        )
    part.replace(target)
    _drop(part)


def _receive(opener: urllib.request.OpenerDirector, url: str, part: Path) -> None:
    """One request, from where the file was cut.

    Raises:
        _BrokenError: the server was reached, or was before, but the connection failed.
        UnreachableError: it was never reached, so that asking again is no use.
        InputError: the server refused.
    """
    have, known = _state(part, url)
    headers = {"User-Agent": f"micl-bench/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": known.validator}
    try:
        response = opener.open(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS
        )
    except urllib.error.HTTPError as error:
        with error:
            if error.code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                if known.total == have:
                    return
                _drop(part)
                raise _BrokenError("it has fewer bytes now") from error
            if error.code in _PASSING:
                raise _BrokenError(f"HTTP {error.code} {error.reason}") from error
            raise InputError(f"{url} answers HTTP {error.code} ({error.reason})") from error
    except RefusedRedirectError as error:
        raise InputError(f"{url} leads to {error}, which is no HTTPS address; refused") from error
    except (OSError, http.client.HTTPException) as error:
        raise (_BrokenError if have else UnreachableError)(_reason(error)) from error
    with response:
        goes_on = response.status == HTTPStatus.PARTIAL_CONTENT and _starts_at(response, have)
        start = have if goes_on else 0
        total = _total(response, start)
        _check_space(part, total, start)
        validator = _validator(response.headers)
        note = json.dumps(dataclasses.asdict(_Part(url=url, validator=validator, total=total)))
        # First the note: bytes without one start over, bytes of an older note must not stay.
        if not start:
            part.unlink(missing_ok=True)
        atomic_write(_note(part), note.encode())
        _copy(response, part, start=start, total=total)


def _copy(response: Any, part: Path, *, start: int, total: int | None) -> None:
    label, blocks = part.name.removesuffix(".part"), -(-(total or 0) // _BLOCK_BYTES)
    received = start
    with (
        part.open("ab" if start else "wb") as file,
        Progress(label, total=blocks, done=start // _BLOCK_BYTES, quiet=total is None) as progress,
    ):
        while block := _read(response):
            received += len(block)
            if received > _LARGEST_BYTES:
                raise InputError(f"{label}: more than {_LARGEST_BYTES >> 30} GiB came; refused")
            file.write(block)
            progress.step(f"{received >> 20} MiB")
    # http.client hands out what came before a cut as if it were all.
    if total is not None and received < total:
        raise _BrokenError(f"{received} of {total} bytes came")


def _read(response: Any) -> bytes:
    try:
        return bytes(response.read(_BLOCK_BYTES))
    except (OSError, http.client.HTTPException) as error:
        raise _BrokenError(_reason(error)) from error


def _state(part: Path, url: str) -> tuple[int, _Part]:
    """Bytes that are here and may be built on, and what is known of them."""
    try:
        known = _Part(**json.loads(_note(part).read_bytes()))
    except (OSError, ValueError, TypeError):
        return 0, _Part(url=url)
    return (_size(part) if known.url == url and known.validator else 0), known


def _starts_at(response: Any, have: int) -> bool:
    """Whether the bytes sent begin where the file was cut; asked for a range, servers may differ."""
    first = str(response.headers.get("Content-Range", "")).removeprefix("bytes ").partition("-")[0]
    if first != str(have):
        raise InputError(
            f"the server was asked for byte {have} and sent from {first or '?'}; try again later"
        )
    return True


def _total(response: Any, start: int) -> int | None:
    length = response.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def _validator(headers: Message) -> str:
    """The strong ETag, or else the date of the last change (RFC 9110, 13.1.5: If-Range)."""
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _check_space(part: Path, total: int | None, start: int) -> None:
    if total is None:
        return
    free = shutil.disk_usage(part.parent).free
    if total > _LARGEST_BYTES or total - start > free:
        raise InputError(
            f"{part.name.removesuffix('.part')} is said to have {total / 1e9:,.1f} GB, "
            f"{part.parent} has room for {free / 1e9:,.1f} GB; set MICL_BENCH_CACHE to a larger disk"
        )


def _reason(error: BaseException) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return str(getattr(cause, "strerror", None) or cause) or type(cause).__name__


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _drop(part: Path) -> None:
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)

"""Public checkpoints by name: what there is, and bringing one to this machine."""

import csv
import dataclasses
import difflib
import functools
import re
from pathlib import Path
from urllib.parse import urlsplit

from micl_bench.checkpoints._download import download, matches
from micl_bench.runtime import distributed
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import writable_cache
from micl_bench.runtime.locks import alone
from micl_bench.runtime.log import say
from micl_bench.runtime.network import UnreachableError

# In a checkout a link to results/checkpoints.csv, in an installed package its copy.
_TABLE = Path(__file__).with_name("checkpoints.csv")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PublicCheckpoint:
    """One row of results/checkpoints.csv."""

    name: str
    """As in `public:NAME`."""
    method: str
    arch: str
    """timm's name, or in its manner."""
    format: str
    """As `micl-bench list formats` names it."""
    url: str
    """The file; of what is not open, the page to get it from."""
    access: str
    """`open`, `gated` (its owner asks who you are) or `by hand` (a page, no plain file)."""
    digest: str
    """`ALGORITHM:HEX` as its owner published it, often only the beginning; empty where none is."""
    licence: str
    paper: str
    source: str
    """What the row was read in."""

    @property
    def file_name(self) -> str:
        """Name in the cache."""
        found = re.search(r"\.(pth\.tar|pth|pt|safetensors)$", urlsplit(self.url).path)
        return f"{self.name}.{found.group(1) if found else 'pth'}"


@functools.cache
def public_checkpoints() -> dict[str, PublicCheckpoint]:
    """All of them by name, in the table's order.

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
    """The row of a name.

    Raises:
        InputError: no such name.
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
    """The file of a public checkpoint, downloaded if it is not in the cache.

    Of processes that work together the first downloads and the others wait, on a machine that does
    not see the first one's cache, one of its own.

    Raises:
        InputError: no such name, no network, not to be had without asking, or another file than the
            published digest says.
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
    """`fetch` for one process and any row.

    Args:
        plain_http_host: as `download` takes it.
    """
    folder = writable_cache("checkpoints")
    target = folder / row.file_name
    with alone(folder, "downloading into", on_wait=say):
        if target.is_file():
            _check(row, target)
            return target
        if row.access != "open":
            raise InputError(_ask_for(row, target))
        say(f"{row.name}: {row.url} (licence: {row.licence})")
        try:
            download(row.url, target, digest=row.digest, plain_http_host=plain_http_host)
        except UnreachableError as error:
            raise InputError(
                f"{urlsplit(row.url).netloc} was not reached ({error}); without a network, download "
                f"{row.url} elsewhere and put it at {target}"
            ) from error
    return target


def _check(row: PublicCheckpoint, target: Path) -> None:
    if row.digest and not matches(target, row.digest):
        raise InputError(
            f"{target} has not {row.name}'s published digest {row.digest}; remove it to download "
            "it again"
        )


def _ask_for(row: PublicCheckpoint, target: Path) -> str:
    why = "has to be asked for" if row.access == "gated" else "is on a page for people"
    return f"{row.name} {why}: get it at {row.url} ({row.licence}) and put it at {target}"

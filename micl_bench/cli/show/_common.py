"""Options and checks of the commands of `show`, and how their pictures are written."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import printable, say

if TYPE_CHECKING:
    from micl_bench.report.figures.render import Drawing, Found
    from micl_bench.report.frame.selection import Selection

_FORMATS = (".png", ".pdf", ".svg")


def _check_picture(out: Path) -> Path:
    """Refuse a name that is no picture's before anything is computed."""
    if out.suffix.lower() not in _FORMATS:
        raise InputError(f"--out {out} must end in one of: {', '.join(_FORMATS)}")
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; give a file")
    return out


Picture = Annotated[
    Path,
    typer.Option(
        "--out",
        help="Picture to write: .png, .pdf or .svg.",
        show_default=False,
        callback=_check_picture,
    ),
]
Results = Annotated[
    list[Path],
    typer.Option(
        help="Folder with records, at any depth, or a record file; repeatable.", show_default=False
    ),
]


@contextmanager
def drawing() -> Iterator[None]:
    """Name the package to install where an import fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise InputError(
            f"a picture needs {error.name}: pip install 'micl-bench[report]'"
        ) from error


def selected(results: Sequence[Path]) -> "Selection":
    """Return the records at some places, the newest of each measurement.

    Raises:
        InputError: a place holds no record.
    """
    from micl_bench.records.result import read_result
    from micl_bench.records.store import read_results
    from micl_bench.report.frame.selection import select

    found = []
    for place in results:
        found += [read_result(place)] if place.is_file() else read_results(place)
    unique = {record.path.resolve(): record for record in found}
    return select(sorted(unique.values(), key=lambda record: record.start))


def write_found(found: "Found", out: Path, *, name: str, nothing: str) -> None:
    """Write the pictures: the first one to `out`, others beside it with a number.

    Raises:
        InputError: there is none; the message says why.
    """
    if not found.drawings:
        why = " ".join(found.remarks)
        raise InputError(printable(f"{nothing} {why}".strip()))
    for sentence in found.remarks:
        say(printable(sentence))
    for turn, picture in enumerate(found.drawings, start=1):
        path = out if turn == 1 else out.with_name(f"{out.stem}-{turn}{out.suffix}")
        write_drawing(picture, path, name=name)


def write_drawing(picture: "Drawing", out: Path, *, name: str) -> None:
    """Write one picture, and print its table, its caption and its path."""
    from micl_bench.report.figures.render import save_picture
    from micl_bench.runtime.terminal import table_text

    save_picture(out, picture.draw)
    if picture.table:
        header, *rows = picture.table
        print(table_text(header, rows, words=range(2)) + "\n")
    print(f"{printable(picture.caption)}\n\n{name}: {out}")

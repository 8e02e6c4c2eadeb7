"""A report is a page, pictures and tables, made from result records alone.

This package imports no torch. Modules that need the `report` extra are imported when a report is built,
so that the summary for the terminal works in a bare install.
"""

import sys
from pathlib import Path
from types import ModuleType

from micl_bench.report.tables.summary import summary_table
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import printable

__all__ = ["DEFAULT_TITLE", "build_report", "summary_table", "write_published"]

DEFAULT_TITLE = "MiCL-Bench report"
# Entries of a report's folder: all of them are replaced when the report is made again.
_ENTRIES = {"report.html", "report.md", "tables", "figures", ".DS_Store"}


def build_report(results: Path, out: Path, *, title: str = DEFAULT_TITLE) -> Path:
    """Build the report of all records below `results` in the folder `out`, replacing an older one.

    Writes `report.html` (one file, nothing else needed to read it), `report.md`, `figures/*.png` and
    `.pdf`, `tables/*.md`, `.tex` and `.csv`; the folder appears complete or not at all. Damaged records
    are named on the terminal and on the page. Returns the path of the HTML file.

    Raises:
        InputError: no readable record, a damaged artefact, an `out` that holds something other than
            a report, or the `report` extra is not installed.
    """
    _check_out(results, out)
    try:
        from micl_bench.report.write.page import build
    except ModuleNotFoundError as error:
        if str(error.name).startswith("micl_bench"):
            raise
        raise InputError(
            f"a report needs {error.name}: pip install 'micl-bench[report]'"
        ) from error
    return build(results, out, title=title)


def _check_out(results: Path, out: Path) -> None:
    """Raise an InputError of a folder whose replacement would delete something else."""
    if results.resolve().is_relative_to(out.resolve()):
        raise InputError(f"the report folder {out} would replace the records in {results}")
    if out.exists() and not out.is_dir():
        raise InputError(f"the report needs a folder, {out} is a file")
    # Without its page too: a version that did not replace folders as a whole may have been killed.
    strange = sorted({path.name for path in out.iterdir()} - _ENTRIES) if out.is_dir() else []
    if strange:
        found = printable(", ".join(strange[:3]))
        raise InputError(
            f"{out} holds something other than a report ({found}); name a new or empty folder"
        )


def write_published(out: Path) -> list[Path]:
    """Write the tables of published numbers alone as Markdown into the folder `out`; returns the files.

    Raises:
        InputError: `out` is a file, or the ledger is damaged.
    """
    from micl_bench.records.published import read_references
    from micl_bench.report.tables.build import published_tables
    from micl_bench.report.write.markdown import to_markdown
    from micl_bench.runtime.files import atomic_write

    if out.exists() and not out.is_dir():
        raise InputError(f"the tables need a folder, {out} is a file")
    written = []
    for table in published_tables(read_references()):
        path = out / f"{table.name.removesuffix('-published')}.md"
        atomic_write(path, to_markdown(table).encode())
        written.append(path)
    return written


class _Callable(ModuleType):
    """`micl_bench.report` is both this package and a function."""

    def __call__(self, results: str | Path, out: str | Path, *, title: str = DEFAULT_TITLE) -> Path:
        """Turn the records of a folder into tables, figures and a page, as `build_report` does.

        Args:
            results: folder of records, at any depth.
            out: folder of the report; an older report in it is replaced.
            title: heading of the page.

        Returns:
            The path of `report.html`, one file that needs nothing else to be read.

        Raises:
            InputError: as `build_report`.

        Example:
            page = micl_bench.report("work/results", "work/report")
        """
        return build_report(Path(results), Path(out), title=title)


sys.modules[__name__].__class__ = _Callable

"""`micl-bench explain`: the whole evidence of one number."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from micl_bench.records.result import Record

STORE = Path("work/results")
"""Where records are looked for, without --results."""

Target = Annotated[
    str,
    typer.Argument(
        metavar="RESULT",
        help="A record file, or the id of a record; the beginning of one, or of its last ten letters, "
        "is enough.",
        show_default=False,
    ),
]
Results = Annotated[
    Path | None,
    typer.Option(
        help="The store: where ids are looked up, and what belongs to a record. Without it, the store "
        "that a record file lies in, or work/results.",
        show_default=False,
    ),
]


def explain(
    target: Target,
    results: Results = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything as JSON too.")
    ] = None,
) -> None:
    """Show all that stands behind one number, checked again.

    Metrics with intervals, and made again from the predictions for each image; images, checkpoint and
    the trainings it went through, recipe and settings with their digests; code, environment, time;
    the files beside the record, and whether each is the one it was written with; published numbers
    with a verdict; the command that makes it again. RESULT may be the id of a published number too
    (published-...).
    """
    import json

    from micl_bench.records.published import read_references
    from micl_bench.report.audit.explain import explain as evidence
    from micl_bench.report.audit.explain import explain_reference, find_reference
    from micl_bench.report.audit.explain_output import as_text
    from micl_bench.runtime.errors import InputError
    from micl_bench.runtime.files import atomic_write

    if json_file and json_file.is_dir():
        raise InputError(f"--json {json_file} is a folder; give a file")
    references = read_references()
    if target.startswith("published-"):
        found = explain_reference(find_reference(target, references))
    else:
        found = evidence(*look_up(target, results), references)
    if json_file:
        content = json.dumps(found, indent=2, ensure_ascii=False)
        atomic_write(json_file, (content + "\n").encode())
    print(as_text(found))


def look_up(target: str, results: Path | None) -> "tuple[Record, list[Record]]":
    """The record that is meant, and all records of its store.

    Raises:
        InputError: no such record, or several, or a damaged one.
    """
    from micl_bench.records.result import read_result
    from micl_bench.records.store import read_results
    from micl_bench.report.audit.explain import find_record

    file = Path(target)
    if file.is_file():
        return read_result(file), read_results(results or _store_of(file))
    records = read_results(results or STORE)
    return find_record(target, records), records


def _store_of(file: Path) -> Path:
    """The usual store, or one that a suite made, where the record lies in it; else its own folder."""
    from micl_bench.records.plans import PLANS_FOLDER

    if file.resolve().is_relative_to(STORE.resolve()):
        return STORE
    # A suite's runs lie three folders deep; further up, anything could be called so.
    above = file.resolve().parents[1:4]
    return next((one for one in above if any((one / PLANS_FOLDER).glob("*.json"))), file.parent)

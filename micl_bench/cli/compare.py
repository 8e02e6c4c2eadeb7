"""`micl-bench compare`: is one method better than another, or is it chance?"""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B [C ...]",
            help="For each method a record file, or a folder of records: several runs may be in it.",
            show_default=False,
        ),
    ],
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write everything as JSON too.")
    ] = None,
) -> None:
    """Test whether methods differ, on every task, data set and metric that two of them share.

    One run of each: McNemar's exact test on the per-image predictions beside the records. Several
    runs of each: Welch's test over the runs; a seed that changes nothing is no run. P-values are
    adjusted by Holm's method for all tests of the call. Only numbers of one protocol fingerprint, the
    same images and the same training images are compared; for others a line says what differs.
    """
    import json

    from micl_bench.report.compare.comparison import compare_all
    from micl_bench.report.compare.comparison_output import as_json, as_text
    from micl_bench.report.compare.contenders import read_contenders
    from micl_bench.runtime.errors import InputError
    from micl_bench.runtime.files import atomic_write

    if json_file and json_file.is_dir():
        raise InputError(f"--json {json_file} is a folder; give a file")
    contenders = read_contenders(sources)
    comparison = compare_all(contenders)
    if json_file:
        content = json.dumps(as_json(comparison, contenders), indent=2, ensure_ascii=False)
        atomic_write(json_file, (content + "\n").encode())
    print(as_text(comparison, contenders))

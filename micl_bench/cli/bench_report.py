"""`micl-bench bench report`: how long the report of a store takes, and how large its page is."""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from micl_bench.cli.options import Json


def report(
    records: Annotated[int, typer.Option(min=1, help="Records of the made-up store.")] = 1000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; medians are told.")] = 3,
    json_file: Json = None,
) -> None:
    """Measure the report of a made-up store: reading its records, and the whole of it."""
    from statistics import median

    from micl_bench.bench.output import machine_load, table, write_figures
    from micl_bench.bench.store import write_store
    from micl_bench.records.store import read_store
    from micl_bench.report import build_report

    load = machine_load()
    read, whole = [], []
    with tempfile.TemporaryDirectory() as folder:
        store, out = Path(folder, "results"), Path(folder, "report")
        write_store(store, records=records)
        for _ in range(rounds):
            start = time.perf_counter()
            read_store(store)
            read.append(time.perf_counter() - start)
            start = time.perf_counter()
            html = build_report(store, out)
            whole.append(time.perf_counter() - start)
        page_bytes = html.stat().st_size
    results = [
        {"name": "read", "seconds": median(read)},
        {"name": "report", "seconds": median(whole), "page_bytes": page_bytes},
    ]
    rows = [("read the records", f"{median(read):.2f}"), ("whole report", f"{median(whole):.2f}")]
    print(table((f"{records:,} records", "seconds"), rows))
    print(f"the page has {page_bytes / 1e6:.2f} MB")
    if json_file:
        settings = {"records": records, "rounds": rounds}
        write_figures(json_file, benchmark="report", results=results, settings=settings, load=load)

"""The table of costs, of a record that a real pre-training wrote."""

from pathlib import Path

from support import REPOSITORY, Run

from micl_bench.records.store import read_store
from micl_bench.report.frame.selection import select
from micl_bench.report.tables.build import build_tables


def test_a_pretraining_fills_every_measured_column(
    micl_bench: Run, few_digits: Path, tmp_path: Path
) -> None:
    recipe = REPOSITORY / "pretrain" / "embedded.py"
    sets = ("--set", "epochs=2", "--set", "knn_every_epochs=0", "--set", "batch_size=16")
    out = tmp_path / "results"
    done = micl_bench("pretrain", recipe, *sets, "--data", few_digits, "--out", out)
    assert done.returncode == 0, done.stderr
    (made,) = read_store(out).records
    (table,) = build_tables(select([made]), [])
    cells = dict(zip([one.header for one in table.columns], table.rows[0].cells, strict=True))
    for header, metric in (
        ("images/s", "images_per_second"),
        ("MFU [%]", "mfu"),
        ("memory [MiB]", "peak_memory_mib"),
    ):
        assert cells[header].value == made.values[metric] > 0
        assert cells[header].records == (made.id,)
    assert cells["hours"].value == made.seconds / 3600
    assert cells["device-hours"].value == made.device_hours

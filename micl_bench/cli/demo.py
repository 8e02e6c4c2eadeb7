"""The demo: the suite `embedded`, and the report of what it left.

<workdir>/results/      the suite's store: a folder for each run, its data among them
<workdir>/report/       report.html, report.md, figures, tables
<workdir>/report.json   which records the report was made of
"""

from pathlib import Path

from micl_bench.runtime.errors import InputError
from micl_bench.runtime.files import atomic_write, digest_json
from micl_bench.runtime.log import say
from micl_bench.runtime.validate import read_json
from micl_bench.suites.execute import Call
from micl_bench.suites.expand import expand
from micl_bench.suites.file import read_file
from micl_bench.suites.runs import Outcome, Runner
from micl_bench.suites.tables import failures

SUITE = "embedded"


def run_demo(call: Call, workdir: Path, *, command: str, suite: str | Path = SUITE) -> None:
    """Run what is not done yet, make the report, print the table and the path of the report.

    Args:
        call: does a run, in this process.
        command: that goes on where something failed.

    Raises:
        InputError: the report's folder is not the demo's.
        SystemExit: a run failed; what it was is printed.
    """
    report, made_of = workdir / "report", workdir / "report.json"
    if report.exists() and not made_of.is_file():
        raise InputError(f"{report} is not the demo's; give another --workdir")
    outcomes = Runner(call, SUITE, expand(read_file(suite)), workdir / "results").run()
    if any(outcome.problem for outcome in outcomes):
        print(failures(outcomes, command))
        raise SystemExit(1)
    _report(workdir, outcomes, made_of)
    _show(workdir, outcomes)


def _report(workdir: Path, outcomes: list[Outcome], made_of: Path) -> None:
    """Make the report, unless it is there and of these records."""
    ids = sorted(result.id for outcome in outcomes for result in outcome.results)
    wanted, page = digest_json(ids), workdir / "report" / "report.html"
    if page.is_file() and _read(made_of) == wanted:
        return
    import micl_bench

    say("report")
    # Before the folder is there: a kill in between must not make it a stranger's.
    atomic_write(made_of, b'{"records": ""}\n')
    micl_bench.report(workdir / "results", workdir / "report")
    atomic_write(made_of, f'{{"records": "{wanted}"}}\n'.encode())


def _read(made_of: Path) -> str:
    try:
        return read_json(made_of, dict[str, str]).get("records", "")
    except InputError:
        return ""


def _show(workdir: Path, outcomes: list[Outcome]) -> None:
    from micl_bench.report import summary_table

    results = [result for outcome in outcomes for result in outcome.results]
    print(f"\n{summary_table(results)}\n\nreport: {workdir / 'report' / 'report.html'}")

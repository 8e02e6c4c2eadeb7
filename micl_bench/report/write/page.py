"""The report itself: what is in it, and the folder that holds it.

The templates escape all text; text of records loses its control characters before. The page's policy
lets only its own style and script run, and it loads nothing.
"""

import base64
import hashlib
from pathlib import Path

import jinja2
from markupsafe import Markup

from micl_bench.records.published import read_references
from micl_bench.report.figures.all_figures import draw_all
from micl_bench.report.frame.faults import find_faults
from micl_bench.report.frame.inventory import Inventory, describe, take_inventory
from micl_bench.report.tables.build import build_tables
from micl_bench.report.tables.overview import gone_words
from micl_bench.report.write.export import write_tables
from micl_bench.report.write.markdown import escaped, to_markdown
from micl_bench.report.write.page_content import Content, page_context
from micl_bench.runtime.files import atomic_folder
from micl_bench.runtime.log import printable, say

_TEMPLATES = Path(__file__).parent / "templates"


def build(results: Path, out: Path, *, title: str) -> Path:
    """Build the report; `micl_bench.report.build_report` says what it promises."""
    content = _content(results, take_inventory(results), title)
    atomic_folder(out, lambda folder: _write(folder, content))
    return out / "report.html"


def _content(results: Path, inventory: Inventory, title: str) -> Content:
    faults = find_faults(results, inventory.selection)
    for line in describe(inventory):
        say(line)
    for name, reason in faults.damaged:
        say(printable(f"left out: {name}: {reason}"))
    if faults.gone:
        say(printable(gone_words(faults)))
    references = read_references()
    return Content(
        title=title,
        inventory=inventory,
        faults=faults,
        tables=build_tables(inventory.selection, references),
        gallery=draw_all(inventory.selection, references),
        references=references,
    )


def _write(folder: Path, content: Content) -> None:
    """Fill the report folder."""
    write_tables(folder / "tables", content.tables, content.inventory.selection)
    templates = _templates()
    # They are ours, and stand in the page as they are.
    style, script = (
        Markup((_TEMPLATES / name).read_text(encoding="utf-8"))
        for name in ("style.css", "report.js")
    )
    context = {**page_context(content), "style": style, "script": script}
    (folder / "figures").mkdir()
    for picture in content.gallery.pictures:
        (folder / "figures" / f"{picture.name}.png").write_bytes(picture.png)
        (folder / "figures" / f"{picture.name}.pdf").write_bytes(picture.pdf)
    for name in ("report.md", "report.html"):
        page = templates.get_template(f"{name}.jinja").render(context)
        (folder / name).write_text(page, encoding="utf-8")


def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=jinja2.select_autoescape(enabled_extensions=("html.jinja",)),
        undefined=jinja2.StrictUndefined,
        # Markup is ours and stays as it is; any other text may be a record's.
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    templates.filters["base64"] = lambda content: base64.b64encode(content).decode()
    templates.filters["sha256"] = lambda block: base64.b64encode(
        hashlib.sha256(block.encode()).digest()
    ).decode()
    templates.filters["md"] = escaped
    # Its titles are headings of the first order; here they lie below the page's own.
    templates.filters["table"] = lambda table: Markup("#" + to_markdown(table))
    return templates

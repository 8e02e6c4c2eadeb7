"""The report in a real browser, which has the last word on what a reader sees."""

import base64
import dataclasses
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from page_reader import Page as Written
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from synthetic_results import changed, result, write_demo

from micl_bench.records.plans import Plan, PlannedRun, write_plan
from micl_bench.records.result import Result, write_result
from micl_bench.records.store import read_store
from micl_bench.report import build_report

pytestmark = pytest.mark.browser

OpenPage = Callable[..., Page]

FINETUNE = "[data-table='finetune-embedded']"
OVERVIEW = "[data-table='overview']"
PUBLISHED = "[data-table='finetune-published']"


def unfolded(page: Page) -> Page:
    """The page with its table of published numbers open."""
    page.locator("#table-finetune-published").click()
    expect(page.locator(PUBLISHED)).to_be_visible()
    return page


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo's records, with a superseded one, a second seed, a damaged file, and runs to do."""
    folder = tmp_path_factory.mktemp("demo") / "results"
    records = write_demo(folder)
    old = next(record for record in records if record.task == "knn" and record.method == "MiCL")
    write_result(dataclasses.replace(old, start="2025-04-01T10:00:00+00:00"), folder / "older")
    write_result(changed(old, seed=1, metrics={"top1": 77.0, "top5": 96.0}), folder)
    (folder / "damaged.json").write_text('{"schema": "micl-bench/result/4", "task": "x"')
    planned = {"task": "linear", "method": "from scratch", "seed": 0, "data": "embedded"}
    write_plan(
        folder,
        Plan(
            suite="embedded",
            runs=(
                PlannedRun(name="linear/scratch", folder="a", state="to do", **planned),
                PlannedRun(
                    name="b", folder="b", state="failed", problem="out of memory", **planned
                ),
                PlannedRun(name="c", folder="c", state="done", **planned),
            ),
        ),
    )
    return folder


@pytest.fixture(scope="module")
def html(store: Path) -> Path:
    """The HTML file in an empty folder, away from everything that was made with it."""
    built = build_report(store, store.parent / "report", title="A demo")
    (store.parent / "alone").mkdir()
    return Path(shutil.copy(built, store.parent / "alone"))


@pytest.fixture
def page(html: Path, open_page: OpenPage) -> Page:
    return open_page(html)


@pytest.fixture(scope="module")
def records(store: Path) -> dict[str, Result]:
    return {record.id: record for record in read_store(store).records}


def column(table: Locator, header: str) -> list[str]:
    """First line of each cell below a header, as a reader sees them."""
    headers = table.locator("th[data-sort]").all_inner_texts()
    place = next(i for i, text in enumerate(headers) if text.strip().startswith(header))
    rows = table.locator("tbody tr").all()
    return [row.locator("th, td").nth(place).inner_text().split("\n")[0] for row in rows]


def press(table: Locator, header: str) -> Locator:
    return table.locator("th[data-sort]", has_text=header).get_by_role("button")


def test_a_column_is_sorted_best_first_then_turned_then_as_it_was(page: Page) -> None:
    table = page.locator(FINETUNE)
    before = column(table, "method")
    header = table.locator("th[data-sort]", has_text="top-1")
    expect(header).to_have_attribute("aria-sort", "none")
    press(table, "top-1").click()
    assert column(table, "method") == ["MiCL", "from scratch", "random weights"]
    expect(header).to_have_attribute("aria-sort", "descending")
    press(table, "top-1").press("Enter")
    assert column(table, "method") == ["random weights", "from scratch", "MiCL"]
    expect(header).to_have_attribute("aria-sort", "ascending")
    press(table, "top-1").press("Space")
    assert column(table, "method") == before
    expect(header).to_have_attribute("aria-sort", "none")


def test_what_is_missing_stays_last_in_both_directions(page: Page) -> None:
    table = page.locator(OVERVIEW)
    for _ in range(2):
        press(table, "embedded k-NN top-1").click()
        assert column(table, "embedded k-NN top-1") == ["78.4", "n/a", "n/a"]


def test_sorting_is_by_value_not_by_text(html: Path, open_page: OpenPage) -> None:
    table = unfolded(open_page(html)).locator(PUBLISHED)
    press(table, "epochs").click()
    shown = [text.rstrip("abcdefghijklmnopqrstuvwxyz,") for text in column(table, "epochs")]
    numbers = [float(text.replace(",", "")) for text in shown if text not in ("n/", "n/a")]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[0] >= 1600
    assert len(numbers) < len(shown)


def test_rows_are_filtered_by_words_and_by_choice(page: Page) -> None:
    table = unfolded(page).locator(PUBLISHED)
    rows = table.locator("tbody tr").all_inner_texts()
    networks = column(table, "network")
    expected = sum("beit" in text.lower() for text in rows)
    search = page.get_by_role("searchbox", name="finetuning against").or_(
        page.locator(f".controls:has(+ .scroll {PUBLISHED}) input")
    )
    search.fill("BEIT")
    assert table.locator("tbody tr").count() == expected > 0
    status = page.locator(f".controls:has(+ .scroll {PUBLISHED})").get_by_role("status")
    expect(status).to_have_text(f"{expected} of {len(rows)} rows")
    search.fill("")
    choice = page.locator(f".controls:has(+ .scroll {PUBLISHED}) select[aria-label^='network']")
    choice.select_option("ViT-L/16")
    assert table.locator("tbody tr").count() == networks.count("ViT-L/16") > 0
    search.fill("no such words")
    assert table.locator("tbody tr").count() == 0


def test_a_card_opens_and_closes_by_mouse(page: Page, records: dict[str, Result]) -> None:
    link = page.locator(f"{FINETUNE} tbody a").first
    link.click()
    card = page.get_by_role("dialog")
    expect(card).to_be_visible()
    told = records[page.url.partition("#record-")[2]]
    text = card.inner_text()
    for words in (told.command, told.fingerprint, told.data.digest, told.checkpoint.digest):
        assert words in text
    for words in (told.protocol, told.start, told.code_version, f"{told.id}.json", "93.1"):
        assert words in text
    card.get_by_role("button", name="Close").click()
    expect(card).to_be_hidden()
    assert "#record" not in page.url


def test_a_card_opens_and_closes_by_keyboard_and_gives_the_focus_back(page: Page) -> None:
    link = page.locator(f"{FINETUNE} tbody a").nth(1)
    link.press("Enter")
    card = page.get_by_role("dialog")
    expect(card.get_by_role("heading", level=2)).to_be_focused()
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()
    expect(link).to_be_focused()
    link.press("Enter")
    expect(card).to_be_visible()


def test_an_address_opens_a_card_and_going_back_closes_it(
    html: Path, open_page: OpenPage, records: dict[str, Result]
) -> None:
    identity = next(iter(records))
    page = open_page(html, f"#record-{identity}")
    expect(page.get_by_role("dialog")).to_contain_text(identity)
    page = open_page(html)
    page.locator(f"{FINETUNE} tbody a").first.click()
    page.go_back()
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_a_number_of_several_records_shows_each_of_them(page: Page) -> None:
    page.locator(f"{OVERVIEW} a[data-cards]").first.click()
    card = page.get_by_role("dialog")
    expect(card).to_contain_text("This number comes from 2 records")
    first = page.url
    card.locator(".siblings a").nth(1).click()
    expect(card.locator(".siblings a").nth(1)).to_have_attribute("aria-current", "true")
    assert page.url != first
    page.keyboard.press("Escape")
    expect(card).to_be_hidden()


def test_a_superseded_record_leads_to_the_newer_one(
    html: Path, open_page: OpenPage, records: dict[str, Result]
) -> None:
    old = next(record for record in records.values() if record.start.startswith("2025-04"))
    page = open_page(html, f"#record-{old.id}")
    card = page.get_by_role("dialog")
    expect(card).to_contain_text("superseded")
    card.get_by_role("paragraph").filter(has_text="Superseded by").get_by_role("link").click()
    expect(card.locator("p.id")).not_to_contain_text(old.id)
    assert old.id not in page.url


def test_a_published_number_shows_its_source(page: Page) -> None:
    row = page.locator(f"{PUBLISHED} tbody tr", has_text="MiCL (as OCL)")
    expect(row).to_be_hidden()
    unfolded(page)
    expect(row).to_have_class("published")
    expect(row).to_contain_text("published")
    row.get_by_role("link", name="85.8").click()
    card = page.get_by_role("dialog")
    expect(card).to_contain_text("not measured")
    expect(card).to_contain_text("arXiv:2411.09858")


def test_the_command_is_copied(html: Path, browser: Browser, records: dict[str, Result]) -> None:
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    told = next(iter(records.values()))
    page.goto(f"{html.as_uri()}#record-{told.id}")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == told.command
    context.close()


def test_the_scheme_follows_the_system_and_can_be_switched(html: Path, open_page: OpenPage) -> None:
    def background(page: Page) -> int:
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(colour.removeprefix("rgb(").split(",")[0])

    assert background(open_page(html, color_scheme="dark")) < 64
    page = open_page(html, color_scheme="light")
    assert background(page) > 192
    page.get_by_role("button", name="Switch to dark colours").click()
    assert background(page) < 64
    page.get_by_role("button", name="Switch to light colours").press("Enter")
    assert background(page) > 192


def test_all_records_are_listed_sorted_and_filtered(page: Page, records: dict[str, Result]) -> None:
    table = page.locator("[data-table='records']")
    assert sorted(column(table, "record")) == sorted(records)
    press(table, "value").click()
    values = [float(text) for text in column(table, "value")]
    assert values == sorted(values, reverse=True)
    page.locator("#records select[aria-label^='status']").select_option("superseded")
    assert len(column(table, "record")) == 1
    table.get_by_role("link").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_many_records_are_turned_page_by_page_by_keyboard(
    tmp_path: Path, open_page: OpenPage
) -> None:
    for seed in range(230):
        write_result(result(seed=seed, metrics={"top1": seed / 10}), tmp_path / "results")
    page = open_page(build_report(tmp_path / "results", tmp_path / "report"))
    table, section = page.locator("[data-table='records']"), page.locator("#records")
    pages, last = section.locator(".pages"), section.get_by_role("button", name="Next")
    press(table, "value").click()
    expect(pages).to_contain_text("rows 1 to 100")
    expect(section.get_by_role("button", name="Previous")).to_be_disabled()
    last.press("Enter")
    expect(last).to_be_focused()
    values = [float(text) for text in column(table, "value")]
    assert values == [value / 10 for value in range(129, 29, -1)]
    last.press("Enter")
    expect(pages).to_contain_text("rows 201 to 230")
    expect(last).to_be_disabled()
    expect(section.get_by_role("button", name="Previous")).to_be_focused()
    # A filter goes back to the first page, and what fits on one has no pages.
    section.get_by_role("searchbox").fill("15.0")
    expect(pages).to_be_hidden()
    assert "15.0" in column(table, "value")


def test_what_is_missing_and_what_is_damaged_is_named(page: Page) -> None:
    missing = page.locator("[data-table='missing']")
    assert sorted(column(missing, "run")) == ["b", "linear/scratch"]
    expect(missing).to_contain_text("out of memory")
    damaged = page.locator("[data-table='damaged'] tbody")
    expect(damaged).to_contain_text("damaged.json")
    expect(page.locator("header")).to_contain_text("Suite embedded: 1 done, 1 failed, 1 to do.")
    overview = page.locator(f"{OVERVIEW} tbody tr", has_text="from scratch")
    expect(overview).to_contain_text("1 failed")


def test_the_browser_decodes_every_picture(html: Path, open_page: OpenPage) -> None:
    page = open_page(html)
    written = Written(html.read_text(encoding="utf-8")).images
    widths = page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    for source, width in zip(written, widths, strict=True):
        encoded = source.removeprefix("data:image/png;base64,")
        assert width == Image.open(io.BytesIO(base64.b64decode(encoded))).width > 500
    assert len(widths) > 4
    assert all(page.evaluate("[...document.images].map((image) => image.alt)"))


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_sticks_out_of_the_page(html: Path, open_page: OpenPage, width: int) -> None:
    page = open_page(html, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_print_has_all_measured_tables_and_no_controls(page: Page, tmp_path: Path) -> None:
    page.get_by_role("button", name="Switch to dark colours").click()
    page.emulate_media(media="print")
    for gone in ("nav", ".controls", "#records", "#published", "#scheme"):
        expect(page.locator(gone).first).to_be_hidden()
    for table in page.locator("main > section:not(#records, #published) table").all():
        expect(table).to_be_visible()
    regions = "[...document.querySelectorAll('.scroll')]"
    assert page.evaluate(f"{regions}.every((one) => one.scrollHeight <= one.clientHeight + 1)")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
    page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().count(b"/Type /Page\n") > 3


def test_without_scripts_the_tables_are_there(html: Path, open_page: OpenPage) -> None:
    page = open_page(html, java_script_enabled=False)
    expect(page.get_by_text("Without scripts this page shows its tables")).to_be_visible()
    expect(page.locator(FINETUNE)).to_be_visible()
    expect(page.locator("#records")).to_be_hidden()
    assert page.get_by_role("button").count() == 0


def test_only_the_pages_own_script_runs_and_nothing_is_fetched(
    html: Path, browser: Browser
) -> None:
    context = browser.new_context()
    page = context.new_page()
    refused: dict[str, str | None] = {}
    page.on("requestfailed", lambda request: refused.update({request.url: request.failure}))
    page.goto(html.as_uri())
    page.evaluate("""() => {
      const script = document.createElement("script");
      script.textContent = "window.ran = true";
      const image = document.createElement("img");
      image.src = "https://example.invalid/pixel.png";
      const handler = document.createElement("div");
      handler.innerHTML = "<img src='data:,' onerror='window.ran = true'><p style='color: red'>x";
      document.body.append(script, image, handler);
    }""")
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") is None
    assert page.evaluate("fetch('https://example.invalid/').then(() => 1, () => 0)") == 0
    assert refused["https://example.invalid/pixel.png"] == "csp"
    assert set(refused.values()) == {"csp"}
    colour = page.evaluate("getComputedStyle(document.querySelector('body > div p')).color")
    assert colour != "rgb(255, 0, 0)"
    context.close()


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barrier_is_found(html: Path, open_page: OpenPage, scheme: str) -> None:
    page = open_page(html, color_scheme=scheme)
    assert _barriers(page) == []
    page.locator(f"{FINETUNE} tbody a").first.click()
    for fold in page.locator("dialog summary").all():
        fold.click()
    assert _barriers(page) == []


def _barriers(page: Page) -> list[str]:
    """What axe-core, an engine of accessibility rules, holds against the page."""
    found = Axe().run(page).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]


HOSTILE = (
    "</script><script>window.ran = 1</script><img src=x onerror='window.ran=1'>\"'&\u2028\u202e"
)


def test_hostile_names_stay_names(tmp_path: Path, open_page: OpenPage) -> None:
    odd = result(
        method=HOSTILE[:100],
        arch=HOSTILE,
        protocol=HOSTILE,
        command=f"run {HOSTILE}",
        data={"name": HOSTILE, "split": HOSTILE, "stands_for": HOSTILE},
        checkpoint={"source": HOSTILE},
        settings={HOSTILE: HOSTILE, "__proto__": {"polluted": 1}, "long": "x" * 5000},
        recipe={"constructor": {"prototype": [HOSTILE]}},
        environment={HOSTILE: HOSTILE},
        artifacts={HOSTILE: HOSTILE},
        metrics={"top1": 3.0, HOSTILE: 1.0},
    )
    made = dataclasses.replace(odd, method="MiCL", task=HOSTILE)
    for each in (odd, made):
        write_result(each, tmp_path / "results")
    page = open_page(build_report(tmp_path / "results", tmp_path / "report"), f"#record-{made.id}")
    card = page.get_by_role("dialog")
    expect(card).to_contain_text("<script>window.ran = 1</script>")
    assert page.evaluate("window.ran") is None
    assert page.evaluate("({}).polluted") is None
    assert page.evaluate("document.scripts.length") == 2
    assert "\u202e" not in page.content()
    for fold in card.locator("summary").all():
        fold.click()
    expect(card).to_contain_text("__proto__")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_reader_sees_colours_of_the_bars(page: Page) -> None:
    shot = page.screenshot(full_page=True)
    pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).reshape(-1, 3).astype(int)
    # Scaled pictures blend colours at their edges; large areas keep them.
    for colour in ((0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00)):
        assert (abs(pixels - colour).max(axis=1) <= 2).sum() > 1000

"""The report in a real browser, which has the last word on what a reader sees."""

import base64
import http.server
import io
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from page_reader import Page
from PIL import Image
from synthetic_results import write_demo

from micl_bench.report import build_report

pytestmark = pytest.mark.browser

# Runs in a copy of the page only: the report itself forbids scripts.
_PROBE = """<script>addEventListener("load", () => {
  for (const image of document.images) image.dataset.width = image.naturalWidth;
  for (const box of document.querySelectorAll(".scroll"))
    box.dataset.hidden = box.scrollWidth - box.clientWidth;
  document.body.dataset.hidden = document.documentElement.scrollWidth - innerWidth;
});</script></body>"""


def _chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found:
        return found
    message = "no chromium on the PATH: apt-get install chromium"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _browse(url: str, *options: str, profile: Path) -> str:
    quiet = ["--disable-background-networking", "--no-first-run", "--hide-scrollbars"]
    command = [_chromium(), "--headless", "--no-sandbox", "--disable-gpu", *quiet]
    command += [f"--user-data-dir={profile}", *options, url]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.fixture(scope="module")
def page_alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The HTML file in an empty folder, away from the figures that were made with it."""
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder / "results")
    html = build_report(folder / "results", folder / "report", title="A demo")
    (folder / "alone").mkdir()
    return Path(shutil.copy(html, folder / "alone"))


@pytest.fixture(scope="module")
def probed(page_alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page as the browser understood it, with what the browser measured."""
    text = page_alone.read_text(encoding="utf-8").replace("default-src 'none'; ", "", 1)
    text = text.replace("<meta http-equiv", "<meta data-was", 1).replace("</body>", _PROBE)
    copy = page_alone.with_name("probed.html")
    copy.write_text(text, encoding="utf-8")
    profile = tmp_path_factory.mktemp("profile")
    return Page(_browse(copy.as_uri(), "--dump-dom", "--window-size=1100,900", profile=profile))


def test_all_tables_and_pictures_reach_the_reader(probed: Page, page_alone: Path) -> None:
    written = Page(page_alone.read_text(encoding="utf-8"))
    assert probed.tables == written.tables
    assert len(probed.tables) == 10
    assert probed.images == written.images
    assert len(probed.images) == 6


def test_the_browser_decodes_every_picture(probed: Page) -> None:
    for source, width in zip(probed.images, probed.data["img-width"], strict=True):
        encoded = source.removeprefix("data:image/png;base64,")
        assert int(width) == Image.open(io.BytesIO(base64.b64decode(encoded))).width > 1000


def test_nothing_is_cut_off_at_page_width(probed: Page) -> None:
    assert probed.data["div-hidden"] == ["0"] * 9
    assert probed.data["body-hidden"] == ["0"]


def test_a_reader_sees_colours_of_the_bars(page_alone: Path, tmp_path: Path) -> None:
    shot = tmp_path / "page.png"
    size = "--window-size=1100,8000"
    _browse(page_alone.as_uri(), size, f"--screenshot={shot}", profile=tmp_path / "profile")
    pixels = np.asarray(Image.open(shot).convert("RGB")).reshape(-1, 3)
    for colour in ((0x00, 0x72, 0xB2), (0xE6, 0x9F, 0x00), (0xA6, 0xA6, 0xA6)):
        assert (pixels == colour).all(axis=1).sum() > 2000


@pytest.fixture
def requests(page_alone: Path) -> Iterator[tuple[int, list[str]]]:
    """A local server of the page, and every path that anyone asks it for."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            # Chromium also calls home for itself: such requests have no page as their origin.
            if "report.invalid" in self.headers["Host"] + self.headers.get("Referer", ""):
                asked.append(self.path)
            super().do_GET()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    handler = partial(Handler, directory=str(page_alone.parent))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_nothing_is_asked_of_the_network(requests: tuple[int, list[str]], tmp_path: Path) -> None:
    port, asked = requests
    # Whatever host a request names, it would reach the local server.
    _browse(
        "http://report.invalid/report.html",
        f"--host-resolver-rules=MAP * 127.0.0.1:{port}",
        "--dump-dom",
        profile=tmp_path / "profile",
    )
    assert "/report.html" in asked
    assert set(asked) <= {"/report.html", "/favicon.ico"}

"""Public checkpoints: the table, and downloads from a real server that cuts, lies and redirects."""

import csv
import dataclasses
import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import timm
from support import REPOSITORY, Run, torchrun

from micl_bench.checkpoints import _public
from micl_bench.checkpoints._public import (
    PublicCheckpoint,
    fetch,
    fetch_row,
    public_checkpoints,
)
from micl_bench.runtime import plugins
from micl_bench.runtime.errors import InputError

CONTENT = bytes(range(256)) * 20_000  # 5.12 MB: several blocks, so that a cut leaves whole ones


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with (REPOSITORY / "results" / "checkpoints.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_is_whole(rows: list[dict[str, str]]) -> None:
    assert list(rows[0]) == [field.name for field in dataclasses.fields(PublicCheckpoint)]
    names = [row["name"] for row in rows]
    assert len(set(names)) == len(names) >= 50
    assert list(public_checkpoints()) == names
    for row in rows:
        assert None not in row, f"{row['name']} has a column too many"
        assert re.fullmatch(r"[a-z0-9_]+", row["name"])
        assert all(row[key].strip() == row[key] for key in row)
        assert all(row[key] for key in row if key != "digest"), row["name"]
        assert row["format"] in plugins.names("checkpoints")
        assert row["access"] in ("open", "gated", "by hand")
        assert re.fullmatch(r"arXiv:\d{4}\.\d{5}", row["paper"])
        assert re.fullmatch(r"(md5|sha256):[0-9a-f]{6,64}|", row["digest"])


def test_every_address_is_https_and_open_ones_are_files(rows: list[dict[str, str]]) -> None:
    for row in rows:
        parts = urlsplit(row["url"])
        assert parts.scheme == "https", row["url"]
        assert parts.netloc
        is_file = parts.path.endswith((".pth", ".pth.tar", ".pt", ".safetensors"))
        assert is_file == (row["access"] == "open"), row["name"]


def test_file_names_do_not_meet_in_the_cache() -> None:
    files = [row.file_name for row in public_checkpoints().values()]
    assert len(set(files)) == len(files)
    assert public_checkpoints()["ijepa_vit_h14"].file_name == "ijepa_vit_h14.pth.tar"


def test_architectures_are_timms_or_of_its_kind(rows: list[dict[str, str]]) -> None:
    known = set(timm.list_models())
    others = {row["arch"] for row in rows if row["arch"] not in known}
    assert others <= {
        # MSN's small patches; MoCo v3's ViT-S, which is not timm's of 6 heads.
        "vit_base_patch4_224",
        "vit_large_patch7_224",
        "vit_small_12heads_patch16_224",
    }


def test_timms_own_addresses_are_the_same(rows: list[dict[str, str]]) -> None:
    """The same file under another address in timm would mean that one of the two is old."""
    ours = {row["url"] for row in rows}
    theirs = {
        config.url
        for name in timm.list_pretrained("vit_*")
        if (config := timm.models.get_pretrained_cfg(name)).url
        and re.search(r"\.(dino|lvd142m|mae|in1k_ijepa|in22k_ijepa)$", name)
    }
    assert len(theirs) >= 15
    assert theirs <= ours


def test_list_shows_each_with_format_and_licence(micl_bench: Run) -> None:
    done = micl_bench("list", "checkpoints")
    assert done.returncode == 0
    line = next(line for line in done.stdout.splitlines() if line.startswith("mae_vit_base "))
    assert "MAE" in line
    assert "CC-BY-NC-4.0" in line
    assert set(plugins.names("checkpoints")) <= {
        line.split()[0] for line in micl_bench("list", "formats").stdout.splitlines()
    }


@dataclasses.dataclass
class Behaviour:
    """What the server does; tests change it between requests."""

    content: bytes = CONTENT
    cut_after: int | None = None
    status: int = 0
    location: str = ""
    claimed: int = 0
    requests: list[dict[str, str]] = dataclasses.field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: Behaviour

    def do_GET(self) -> None:
        does = self.behaviour
        does.requests.append(dict(self.headers))
        if does.status:
            self.send_response(does.status)
            if does.location:
                self.send_header("Location", does.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = does.content
        self.send_response(200)
        self.send_header("Content-Length", str(does.claimed or len(body)))
        self.end_headers()
        if does.cut_after is not None:
            body, does.cut_after = body[: does.cut_after], None
            self.close_connection = True
        self.wfile.write(body)
        if does.claimed:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[str, Behaviour]]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MICL_BENCH_CACHE", str(tmp_path / "cache"))
    # The pauses are for servers far away.
    monkeypatch.setattr(_public, "_PAUSES_SECONDS", (0.0, 0.0))
    behaviour = Behaviour()
    handler = type("OneHandler", (Handler,), {"behaviour": behaviour})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"127.0.0.1:{running.server_address[1]}", behaviour
        running.shutdown()
        thread.join()


def a_row(host: str, **changes: str) -> PublicCheckpoint:
    return dataclasses.replace(
        public_checkpoints()["mae_vit_base"],
        **{"name": "small", "url": f"http://{host}/some/file.pth", "digest": "", **changes},
    )


def get(host: str, **changes: str) -> Path:
    return fetch_row(a_row(host, **changes), plain_http_host=host)


def cached(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "cache" / "checkpoints").iterdir()}


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_downloads_once_and_checks_the_digest(
    server: tuple[str, Behaviour], tmp_path: Path, algorithm: str
) -> None:
    host, does = server
    digest = f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()[:6]}"
    path = get(host, digest=digest)
    assert path == tmp_path / "cache" / "checkpoints" / "small.pth"
    assert path.read_bytes() == CONTENT
    assert get(host, digest=digest) == path
    assert len(does.requests) == 1
    assert cached(tmp_path) == {"small.pth"}


def test_starts_over_after_the_server_cut_it(server: tuple[str, Behaviour], tmp_path: Path) -> None:
    host, does = server
    does.cut_after = 3_000_000
    assert get(host).read_bytes() == CONTENT
    assert len(does.requests) == 2
    assert cached(tmp_path) == {"small.pth"}


def test_what_a_kill_left_is_neither_taken_nor_kept(
    server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    host, _ = server
    folder = tmp_path / "cache" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "small.pth.part").write_bytes(b"other" * 2_000_000)
    assert get(host).read_bytes() == CONTENT
    assert cached(tmp_path) == {"small.pth"}


def test_a_wrong_digest_is_refused_and_removed(
    server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    host, _ = server
    with pytest.raises(InputError, match="does not have the published digest md5:000000"):
        get(host, digest="md5:000000")
    assert cached(tmp_path) == set()


def test_a_file_put_there_by_hand_is_used_if_it_is_the_right_one(
    server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    host, does = server
    folder = tmp_path / "cache" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "small.pth").write_bytes(CONTENT)
    right = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert get(host, digest=right, access="gated").read_bytes() == CONTENT
    with pytest.raises(InputError, match="remove it to download it again"):
        get(host, digest="sha256:00000000")
    assert does.requests == []


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_one_line(server: tuple[str, Behaviour], tmp_path: Path, status: int) -> None:
    host, does = server
    does.status = status
    with pytest.raises(InputError, match=f"answers HTTP {status}"):
        get(host)
    assert len(does.requests) == 1
    assert cached(tmp_path) == set()


def test_a_server_in_trouble_is_asked_again(server: tuple[str, Behaviour]) -> None:
    host, does = server
    does.status = 503
    with pytest.raises(InputError, match=r"HTTP 503.*put it at .*small\.pth"):
        get(host)
    assert len(does.requests) == 3


@pytest.mark.parametrize(
    "target", ["http://example.org/x.pth", "file:///etc/passwd", "ftp://example.org/x.pth"]
)
def test_redirects_leave_https_for_nothing(
    server: tuple[str, Behaviour], tmp_path: Path, target: str
) -> None:
    host, does = server
    does.status, does.location = 302, target
    with pytest.raises(InputError, match=f"leads to {target}, which is no HTTPS"):
        get(host)
    assert cached(tmp_path) == set()


def test_a_table_with_a_plain_address_is_refused(server: tuple[str, Behaviour]) -> None:
    host, does = server
    with pytest.raises(InputError, match="no HTTPS address; refused"):
        fetch_row(a_row(host))
    with pytest.raises(InputError, match="no HTTPS address; refused"):
        fetch_row(a_row(host, url="file:///etc/passwd"))
    assert does.requests == []


def test_a_huge_length_is_refused_before_a_byte_is_written(
    server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    host, does = server
    does.claimed = 10**15
    with pytest.raises(InputError, match=r"1,000,000\.0 GB.*MICL_BENCH_CACHE"):
        get(host)
    assert cached(tmp_path) == set()


def test_a_length_that_never_comes_is_no_success(
    server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    host, does = server
    does.claimed = len(CONTENT) + 1000
    with pytest.raises(InputError, match="was not reached"):
        get(host)
    assert "small.pth" not in cached(tmp_path)


def test_no_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICL_BENCH_CACHE", str(tmp_path / "cache"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    row = a_row("", url="https://127.0.0.1:9/file.pth")
    with pytest.raises(InputError) as caught:
        fetch_row(row)
    message = str(caught.value)
    assert "127.0.0.1:9 was not reached" in message
    assert "https://127.0.0.1:9/file.pth" in message
    assert str(tmp_path / "cache" / "checkpoints" / "small.pth") in message


def test_gated_ones_say_where_to_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICL_BENCH_CACHE", str(tmp_path))
    with pytest.raises(
        InputError, match=r"has to be asked for.*ai\.meta\.com.*dinov3_vit_b16\.pth"
    ):
        fetch("dinov3_vit_b16")
    with pytest.raises(InputError, match=r"page for people: get it at https://drive\.google\.com"):
        fetch("simmim_vit_b16")


def test_an_unknown_name_lists_near_ones() -> None:
    with pytest.raises(InputError, match="Did you mean mae_vit_base"):
        fetch("mae_vit_bas")


WORKER = """
import dataclasses
import sys
from micl_bench.runtime import distributed
from micl_bench.checkpoints import _public
from micl_bench.runtime.errors import InputError
host = sys.argv[1]
row = dataclasses.replace(
    _public.public_checkpoints()["mae_vit_base"], url=f"http://{host}/file.pth", digest="")
rows = {"wrong": dataclasses.replace(row, name="wrong", digest="md5:000000"), "right": row}
_public.public_checkpoints = lambda: rows
plain = _public.fetch_row
_public.fetch_row = lambda row: plain(row, plain_http_host=host)
with distributed.process_group():
    for name in rows:
        try:
            said = f"got {_public.fetch(name)[0].stat().st_size}"
        except InputError as error:
            said = f"refused {error}"
        # In one piece: the processes share the pipe.
        print(said, flush=True)
"""


@pytest.mark.long
def test_of_processes_that_work_together_one_downloads(
    server: tuple[str, Behaviour], tmp_path: Path
) -> None:
    host, does = server
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER, encoding="utf-8")
    done = torchrun(2, worker, host)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("refused the file from http") == 2, done.stdout
    assert done.stdout.count(f"got {len(CONTENT)}") == 2
    assert len(does.requests) == 2


def test_a_second_download_of_the_same_waits_for_the_first(
    server: tuple[str, Behaviour], capsys: pytest.CaptureFixture[str]
) -> None:
    host, does = server
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: get(host), range(4)))
    assert [path.read_bytes() == CONTENT for path in paths] == [True] * 4
    assert len(does.requests) == 1
    assert "downloading into" in capsys.readouterr().err

"""What is left of a run is damaged: what can go on goes on and says what was lost, all else is named."""

import json
from pathlib import Path

import pytest
from support import REPOSITORY

from micl_bench.data.packed.pack import pack_folder
from micl_bench.engine.pretraining.recipe import PretrainRecipe
from micl_bench.records.provenance import Measurement
from micl_bench.runs.journal import Journal
from micl_bench.runs.run import Run
from micl_bench.runs.states import States
from micl_bench.runtime.config import load_recipe
from micl_bench.runtime.errors import InputError
from micl_bench.runtime.log import MetricLog, read_metrics

ROWS = [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]
LINES = [json.dumps(row).encode() + b"\n" for row in ROWS]


@pytest.mark.parametrize(
    ("content", "left", "words"),
    [
        (b"".join(LINES), [1, 2, 3], ""),
        (b"".join(LINES)[:-1], [1, 2, 3], ""),
        (b"".join(LINES)[:-9], [1, 2], "its last line was cut, as by a kill"),
        (b"".join(LINES) + bytes(4096), [1, 2, 3], "its last line was cut, as by a kill"),
        (LINES[0] + bytes(100) + b"\n" + LINES[2], [1, 3], "1 damaged line (2)"),
        (LINES[0] + b"\xff\xfe\n" + LINES[2], [1, 3], "1 damaged line (2)"),
        (LINES[0] + b"3\n[1]\n" + LINES[2], [1, 3], "2 damaged lines (2, 3)"),
        (LINES[0] + b"[" * 100_000 + b"\n", [1], "1 damaged line (2)"),
        (bytes(10), [], "its last line was cut"),
    ],
)
def test_a_damaged_metric_log_loses_its_damaged_lines_alone(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes,
    left: list[int],
    words: str,
) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(content)
    assert [row["step"] for row in read_metrics(path)] == left
    log = MetricLog(path, first_step=4)
    log.write({"step": 4, "loss": 0.5})
    log.close()
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) == bool(words)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [*left, 4]


def test_a_row_may_hold_the_text_that_belongs_there(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = [*ROWS, {"step": 3, "held_out_top1": 50.0, "held_out_digest": "sha256:x"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for _ in range(2):
        log = MetricLog(path, first_step=4)
        assert log.rows() == rows
        log.close()
    assert read_metrics(path) == rows
    MetricLog(path, first_step=3).close()
    assert read_metrics(path) == ROWS[:2]


@pytest.mark.parametrize(
    "row",
    [
        '{"step": "2"}',
        '{"step": 2, "loss": "low"}',
        '{"step": true}',
        '{"step": 2, "held_out_digest": 3}',
        '{"step": 2, "held_out_digest": null}',
        '{"step": 2, "held_out_top1": "sha256:x", "held_out_digest": "sha256:x"}',
    ],
)
def test_an_edited_row_of_another_kind_ends_no_run(tmp_path: Path, row: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINES[0] + row.encode() + b"\n")
    log = MetricLog(path, first_step=4)
    assert log.rows() == ROWS[:1]
    log.close()


@pytest.mark.parametrize("content", [None, b"", b"\x00" * 50, b"[]", b'{"recipe": 3}', b"\xff"])
def test_a_claim_that_is_gone_or_damaged_is_called_that(
    tmp_path: Path, content: bytes | None
) -> None:
    recipe = load_recipe(REPOSITORY / "pretrain" / "embedded.py", PretrainRecipe)

    def opened(digest: str) -> Run:
        measurement = Measurement(command="")
        digests = {"train_digest": digest}
        return Run(tmp_path, recipe, digests=digests, measurement=measurement, finished=claimed)

    claimed = False
    opened("x").claim()
    claimed = True
    opened("x")
    with pytest.raises(InputError, match="another recipe or other data"):
        opened("y")
    (tmp_path / "recipe.json").unlink()
    if content is not None:
        (tmp_path / "recipe.json").write_bytes(content)
    with pytest.raises(
        InputError, match=r"recipe\.json, which says of what run, is missing or dam"
    ):
        opened("x")


def test_a_file_in_the_place_of_a_folder_is_found_before_the_first_step(tmp_path: Path) -> None:
    for name in ("states", "events"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="states is no folder"):
        States(tmp_path / "states")
    with pytest.raises(InputError, match="events is no folder"):
        Journal(tmp_path, step=0, total=1, label="x")


@pytest.fixture
def unfinished(few_digits: Path, tmp_path: Path) -> Path:
    """A store whose packing stopped at an image that cannot be read."""
    images = tmp_path / "images"
    images.mkdir()
    for folder in (few_digits / "train").iterdir():
        (images / folder.name).mkdir()
        for path in folder.iterdir():
            (images / folder.name / path.name).symlink_to(path.resolve())
    (images / "digit_0" / "bad.jpg").write_bytes(b"bad")
    with pytest.raises(InputError, match="1 of 81"):
        pack_folder(images, tmp_path / "store", layout="image", size=32)
    return tmp_path


def edited(line: bytes, **values: object) -> bytes:
    return json.dumps({**json.loads(line), **values}).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line[: len(line) // 2],
        lambda line: bytes(len(line)),
        lambda line: b"\xff" + line,
        lambda line: edited(line, block=99),
        lambda line: edited(line, sizes=[]),
        lambda line: edited(line, sha256="x"),
        lambda line: edited(line, bad=[[1]]),
        lambda line: b"{}",
    ],
    ids=["torn", "zeros", "no text", "block", "sizes", "sha256", "bad", "empty"],
)
def test_a_damaged_line_of_a_packing_is_packed_again(unfinished: Path, change: object) -> None:
    journal = unfinished / "store" / "journal.jsonl"
    first, *lines = journal.read_bytes().splitlines()
    assert callable(change)
    journal.write_bytes(b"\n".join([first, *map(change, lines)]))
    (unfinished / "images" / "digit_0" / "bad.jpg").unlink()
    (unfinished / "images" / "digit_0" / "bad.jpg").symlink_to(
        next((unfinished / "images" / "digit_1").iterdir()).resolve()
    )
    options = {"layout": "image", "size": 32}
    made = pack_folder(unfinished / "images", unfinished / "store", **options)  # type: ignore
    whole = pack_folder(unfinished / "images", unfinished / "whole", **options)  # type: ignore
    assert made.new_images == 81
    for path in whole.store.root.iterdir():
        assert (made.store.root / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("first", [b"", b"\x00" * 20, b"{}", b'{"block": 0}'])
def test_a_packing_whose_first_line_is_damaged_is_called_that(
    unfinished: Path, first: bytes
) -> None:
    journal = unfinished / "store" / "journal.jsonl"
    journal.write_bytes(first)
    with pytest.raises(InputError, match=r"journal\.jsonl is damaged in its first line"):
        pack_folder(unfinished / "images", unfinished / "store", layout="image", size=32)

"""Suite files of strangers: one line, exit code 2, nothing written, and no words of a YAML library."""

import random
from pathlib import Path

import pytest
import yaml
from support import Run, refused

from micl_bench.runtime.errors import InputError
from micl_bench.suites.expand import expand
from micl_bench.suites.file import read_file
from micl_bench.suites.text import UnreadableError, assigned, parsed

ENTRY = "task: knn\ndata: d\ncheckpoints: {m: c}\nentries:\n  - name: n\n"
LIBRARIES = ("omegaconf", "msgspec", "yaml.", "pyyaml", "while scanning", "while parsing",
             "found character", "could not determine", "<unicode string>", "ScannerError",
             "Traceback")  # fmt: skip

WRONG = {
    "tab": (ENTRY + "\t- name: m\n", "has a tab; YAML takes spaces"),
    "tab inside": ("entries:\n  -\tname: n\n\t  task: knn\n", "has a tab"),
    "open bracket": ("entries: [", "is no YAML"),
    "open quote": ('entries: "x', "is no YAML"),
    "colon": ("a: b: c", "line 1, column 5 is no YAML"),
    "indent": ("a: 1\n b: 2\n", "is no YAML"),
    "two documents": (ENTRY + "---\na: 1\n", "is no YAML"),
    "alias": ("a: &x 1\nb: *x\n", "line 1 has a YAML alias or anchor"),
    "lone alias": ("a: *x\n", "line 1 has a YAML alias or anchor"),
    "merge": (ENTRY + "    <<: {a: 1}\n", "$.entries[0] has <<; known:"),
    "tag": ("a: !!python/object/apply:os.system [true]", "line 1 has a YAML tag"),
    "own tag": ("a: !x 1", "line 1 has a YAML tag"),
    "date tag": ("a: !!timestamp 2024-01-01", "line 1 has a YAML tag"),
    "deep lists": ("a: " + "[" * 5000, "nested more than 20 levels deep"),
    "deep mappings": ("".join("  " * n + "a:\n" for n in range(100)), "nested more than 20 levels"),
    "double key": (ENTRY + "data: e\n", "line 6 has the key 'data' a second time"),
    "double entry key": (ENTRY + "    name: o\n", "line 6 has the key 'name' a second time"),
    "double checkpoint": (ENTRY.replace("{m: c}", "{m: c, m: d}"), "has the key 'm' a second time"),
    "list as key": ("? [a, b]\n: 1\n", "has a list or a mapping for a key"),
    "nan": (ENTRY + "    matrix: {k: [.nan]}\n", "line 6 has .nan, which is no number"),
    "infinity": (ENTRY + "    matrix: {k: [-.inf]}\n", "line 6 has -.inf, which is no number"),
    "too large": (ENTRY + "    matrix: {k: [1e999]}\n", "line 6 has 1e999, which is no number"),
    "control": (ENTRY + "    recipe: a\x07b\n", "it has the character U+0007"),
    "long key": (f"{'k' * 900}: 1\n" + ENTRY, "kkk ... "),
    "longer key": (f"{'k' * 100_000}: 1\n" + ENTRY, "is no YAML: 'kkk"),
    "long word": (ENTRY + f"    task: {'t' * 100_000}\n", "ttt ... "),
    "date": (ENTRY.replace("data: d", "data: 2024-01-01").replace("knn", "k"), "has task 'k'"),
    "fraction": (ENTRY + "    processes: 1.5\n", ".processes is 1.5; needed: a whole number"),
    "truth": (ENTRY + "    processes: true\n", "$.entries[0].processes is True; needed: a whole number"),
    "nothing": (ENTRY.replace("name: n", "name: "), "$.entries[0].name is None; needed: a word"),
    "number for a word": (ENTRY.replace("name: n", "name: 1.50"), "needed: a word (in quotes"),
    "word for a list": (ENTRY + "    methods: m\n", "methods is 'm'; needed: a list"),
    "mapping for a list": (ENTRY + "    seeds: {a: 1}\n", "seeds is {'a': 1}; needed: a list"),
    "list for a mapping": (ENTRY + "    matrix: [1]\n", "matrix is [1]; needed: a mapping"),
    "list for a word": (ENTRY.replace("data: d", "data: [d]"), "data is ['d']; needed: a word"),
    "seed": (ENTRY + f"    seeds: [{1 << 63}]\n", "needed: a whole number from 0 to 2^63 - 1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_strange_file_is_refused_in_one_short_line_of_our_words(
    tmp_path: Path, kind: str
) -> None:
    text, words = WRONG[kind]
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        expand(read_file(path))
    said = str(caught.value)
    assert words in said
    assert len(said) <= 300
    assert said.isprintable()
    assert not [word for word in LIBRARIES if word.lower() in said.lower()]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"\xff\xfe\x00entries", "not UTF-8 text"), (b"", "must have `entries`"),
     (b"PK\x03\x04" + bytes(100), "U+0003"), (ENTRY.encode("utf-16"), "not UTF-8 text")],
)  # fmt: skip
def test_bytes_that_are_no_suite_end_the_command_before_anything_is_written(
    micl_bench: Run, tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "s.yaml").write_bytes(content)
    done = refused(micl_bench("suite", "run", "s.yaml", "--out", "store"))
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["s.yaml"]


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + ENTRY.encode())
    assert len(expand(read_file(path))) == 1


def test_words_and_numbers_are_read_as_they_look() -> None:
    text = "{a: 1e-3, b: 2024-01-01, c: 010, d: 1:30, e: yes, f: true, g: ~, 5: '1', h: -2, i: 3.}"
    assert parsed(text) == {
        **{"a": 1e-3, "b": "2024-01-01", "c": 10, "d": "1:30", "e": "yes", "f": True, "g": None},
        **{"5": "1", "h": -2, "i": 3.0},
    }


def test_plain_yaml_means_what_it_means_elsewhere(tmp_path: Path) -> None:
    """Against the library's own reader, on files without what is read in another way on purpose."""
    for path in (Path(__file__).parents[2] / "downstream" / "suites").glob("*.yaml"):
        theirs, ours = yaml.safe_load(path.read_text()), parsed(path.read_text())
        assert ours == theirs


def test_any_change_of_a_file_is_read_or_refused(tmp_path: Path) -> None:
    text = ENTRY + "    matrix: {k: [5, 1e-3]}\n    overrides: [seed=1]\n    seeds: [0, 1]\n"
    random_ = random.Random(0)
    path = tmp_path / "s.yaml"
    for _ in range(500):
        changed = list(text)
        for _ in range(random_.randint(1, 4)):
            place = random_.randrange(len(changed))
            changed[place] = random_.choice([*"\t{]:&*!'\"é\0 \n-~", "", "9" * 24, "${"])
        path.write_text("".join(changed))
        said = ""
        try:
            expand(read_file(path))
        except InputError as error:
            said = str(error)
        assert len(said) <= 300
        assert not [word for word in LIBRARIES if word.lower() in said.lower()]


@pytest.mark.parametrize(
    ("assignment", "place", "value"),
    [
        ("data=/x", ("data",), "/x"),
        ("data=", ("data",), ""),
        ("seeds=[0,1]", ("seeds",), [0, 1]),
        ("checkpoints.MAE v1.5=b.pt", ("checkpoints", "MAE v1.5"), "b.pt"),
        ("checkpoints.new=b.pt", ("checkpoints", "new"), "b.pt"),
        ("matrix.optim.lr=[1e-3]", ("matrix", "optim.lr"), [1e-3]),
        ("new.matrix={a: 1}", ("new", "matrix"), {"a": 1}),
    ],
)
def test_what_is_set_finds_its_place(
    assignment: str, place: tuple[str, ...], value: object
) -> None:
    content = {"data": "d", "checkpoints": {"MAE v1.5": "a.pt"}, "matrix": {}}
    assigned(content, assignment, ("matrix", "one_at_a_time"))
    found: object = content
    for name in place:
        assert isinstance(found, dict)
        found = found[name]
    assert found == value


@pytest.mark.parametrize("assignment", ["a", ".=1", "a..b=1", "data.x=1", "a=[", "a=*x", "a=!!x 1"])
def test_what_cannot_be_set_is_refused(assignment: str) -> None:
    with pytest.raises(UnreadableError):
        assigned({"data": "d"}, assignment, ())

"""Configs and data files that mean harm: each is refused by name, or read right."""

import bz2
import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kbert.config import FinetuneConfig, Settings, load_config
from kbert.data.corpus import open_corpus
from kbert.data.sources import open_source
from kbert.errors import UserError
from kbert.pretrain_settings import PretrainConfig
from tests.security.folders import DAMAGES, nothing_changes

_SMALL = 2000  # bytes of a message

# === configs ===

CONFIGS: dict[str, str] = {
    "an array of 100,000 levels": "a = " + "[" * 100_000,
    "inline tables of 100,000 levels": "a = {b = " * 100_000,
    "a key of 100,000 parts": "a" + ".a" * 100_000 + " = 1",
    "a quoted key of 100,000 parts": '"a"' + '."a"' * 100_000 + " = 1",
    "a table of 100,000 parts": "[a" + ".a" * 100_000 + "]",
    "a key of 100,000 parts inside": "[data]\nlimit = {a" + ".a" * 100_000 + " = 1}",
    "a number of 100,000 digits": "[data]\nlimit = " + "9" * 100_000,
    "a hexadecimal number of 100,000 digits": "[data]\nlimit = 0x" + "f" * 100_000,
    "a text in place of a number": '[data]\nlimit = "' + "9" * 100_000 + '"',
    "a choice of 100,000 letters": '[data]\ntruncation = "' + "h" * 100_000 + '"',
    "50,000 unknown settings": "[data]\n"
    + "".join(f"k{n} = 1\n" for n in range(50_000)),
    "5,000 sections": "".join(f"[s{n}]\n" for n in range(5_000)),
    "50,000 tables of an array": "[[model]]\n" * 50_000,
    "nested lists": "[data]\nlimit = " + "[" * 300 + "]" * 300,
    "infinity": "[train]\nlearning_rate = inf",
    "no number": "[train]\nweight_decay = nan",
    "a negative count": "[data]\nlimit = -1",
    "a date": "[data]\nlimit = 2020-01-01",
    "a section that is a text": 'data = "x"',
    "the same key twice": "[data]\nlimit = 1\nlimit = 2",
    "more than a megabyte": "# " + "x" * 1_100_000,
    "a NUL": "[data]\nlimit = \0",
    "a key that is code": "[\"__import__('os').system('x')\"]\na = 1",
    "a name that is code": "[data]\n__class__ = 1",
}


@pytest.mark.parametrize("config_class", [FinetuneConfig, PretrainConfig])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_config(tmp_path: Path, name: str, config_class: type[Settings]) -> None:
    file = tmp_path / "config.toml"
    file.write_text(CONFIGS[name])
    with pytest.raises(UserError, match=r"config\.toml") as caught:
        load_config(config_class, file=file)
    assert len(str(caught.value)) < _SMALL


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_stands_in_place_of_a_config(tmp_path: Path, damage: str) -> None:
    (tmp_path / "outside").mkdir()
    file = tmp_path / "inside" / "config.toml"
    file.parent.mkdir()
    file.write_text("[data]\nlimit = 5\n[train]\nseed = 1\n")
    DAMAGES[damage](file, tmp_path / "outside")
    if damage in ("empty", "cut off", "link out of the folder"):  # it is the user's own
        load_config(FinetuneConfig, file=file)
        return
    with pytest.raises(UserError, match=r"config\.toml"):
        load_config(FinetuneConfig, file=file)


# === data files ===


def _write_good(file: Path) -> None:
    rows = [("a good film", "pos"), ("a bad film", "neg")] * 4
    if file.suffix == ".parquet":
        texts, labels = zip(*rows, strict=True)
        pq.write_table(pa.table({"text": texts, "label": labels}), file)
    elif file.suffix == ".jsonl":
        lines = [json.dumps({"text": t, "label": label}) for t, label in rows]
        file.write_text("\n".join(lines) + "\n")
    else:
        end = "\t" if file.suffix == ".tsv" else ","
        lines = [f"{t}{end}{label}" for t, label in [("text", "label"), *rows]]
        file.write_text("\n".join(lines) + "\n")


def _read(file: Path) -> int:
    """Reads all of a file; returns the number of examples."""
    return sum(len(chunk) for chunk in open_source(str(file)).chunks())


FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
# The user names these files: a link is followed, and half a file is one of fewer rows.
_MAY_BE_READ = ("link out of the folder", "cut off")


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_stands_in_place_of_a_data_file(
    tmp_path: Path, ending: str, damage: str
) -> None:
    (tmp_path / "outside").mkdir()
    file = tmp_path / "inside" / f"data{ending}"
    file.parent.mkdir()
    _write_good(file)
    DAMAGES[damage](file, tmp_path / "outside")
    with nothing_changes(tmp_path / "outside"):
        try:
            assert _read(file) > 0
        except UserError as error:
            assert "data" in str(error)
            assert len(str(error)) < _SMALL
        else:
            assert damage in _MAY_BE_READ


_LONG_LINE = 2**26 + 1
# The first line is the header of a table.
_MEGABYTE = b"text,label\n" + (b"x" * 998 + b",a\n") * 1000
DATA: dict[str, Callable[[], tuple[str, bytes]]] = {
    "a line of 67 MB": lambda: (".csv", b"text,label\n" + b"x" * _LONG_LINE),
    "a field of many lines": lambda: (
        ".csv", b'text,label\n"' + (b"x" * 999 + b"\n") * 5_000,
    ),
    "a row of fields with line ends": lambda: (
        ".csv", b'text,label\n"' + (b"x" * 995 + b'\n","') * 5_000,
    ),
    "a million columns": lambda: (".csv", b"a," * 10**6 + b"b\n1,2\n"),
    "JSON of 30,000 columns": lambda: (
        ".jsonl", json.dumps({f"k{n}": "x" for n in range(30_000)}).encode(),
    ),
    "JSON of three million lists": lambda: (
        ".jsonl", b'{"text": [' + b"[]," * 3_000_000 + b"1]}",
    ),
    "JSON that is nested": lambda: (".jsonl", b'{"text": ' + b"[" * 10**6),
    "JSON with a number of 5,000 digits": lambda: (
        ".jsonl", b'{"text": "a", "label": ' + b"9" * 5_000 + b"}",
    ),
    "half a character": lambda: (".jsonl", b'{"text": "\\ud800", "label": "a"}\n'),
    "a label that is an object": lambda: (".jsonl", b'{"text": "a", "label": {}}\n'),
    "a label that is infinite": lambda: (
        ".jsonl", b'{"text": "a", "label": Infinity}\n',
    ),
    "a quote that is never closed": lambda: (".csv", b'text,label\n"a,b\n'),
    "a gzip in a gzip": lambda: (
        ".csv.gz", gzip.compress(gzip.compress(b"text,label\na,b\n")),
    ),
    "a gzip that is cut off": lambda: (
        ".csv.gz", gzip.compress(b"text,label\n" + os.urandom(10_000))[:200],
    ),
    # Packed files one behind the other are one.
    "a gzip that is a bomb": lambda: (".csv.gz", gzip.compress(_MEGABYTE) * 6),
    "a bzip2 that is a bomb": lambda: (".csv.bz2", bz2.compress(_MEGABYTE) * 6),
    "an xz that is a bomb": lambda: (".csv.xz", lzma.compress(_MEGABYTE) * 6),
    "a zstd that is a bomb": lambda: (
        ".csv.zst", pa.compress(_MEGABYTE * 6, codec="zstd", asbytes=True),
    ),
    "a Parquet bomb": lambda: (
        ".parquet.gz", gzip.compress(b"PAR1" + bytes(6 * 10**6) + b"PAR1", 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DATA)
def test_a_data_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # A sixteenth of the true bounds, for speed; test_size_bombs.py has those.
    monkeypatch.setattr("kbert.data.compressed.ALWAYS_UNPACKED", 2**22)
    monkeypatch.setattr("kbert.data.csv_files._MAX_ROW", 2**22)
    ending, content = DATA[name]()
    file = tmp_path / f"data{ending}"
    file.write_bytes(content)
    with pytest.raises(UserError, match="data") as caught:
        _read(file)
    assert len(str(caught.value)) < _SMALL


PARQUETS: dict[str, tuple[pa.Table, bool]] = {
    "lists": (pa.table({"text": [["a"], ["b"]], "label": ["x", "y"]}), False),
    "structs": (pa.table({"text": [{"a": 1}], "label": ["x"]}), False),
    "numbers for texts": (pa.table({"text": [1, 2], "label": ["x", "y"]}), False),
    "lists for labels": (pa.table({"text": ["a"], "label": [[1]]}), False),
    "no texts": (pa.table({"text": pa.nulls(2), "label": ["x", "y"]}), False),
    "missing texts": (pa.table({"text": ["a", None], "label": ["x", "y"]}), False),
    "no rows": (pa.table({"text": pa.array([], "string"), "label": []}), False),
    "no columns": (pa.table({}), False),
    "the same column twice": (
        pa.Table.from_arrays([pa.array(["a"])] * 2, ["text", "text"]), False
    ),
    "11,000 columns": (pa.table({f"c{n}": [1] for n in range(11_000)}), False),
    "a time beyond all calendars": (
        pa.table({"text": ["a"], "label": pa.array([2**62], pa.timestamp("ms"))}), False
    ),
    "bytes that are no text": (
        pa.table({"text": [b"\xff\xfe"], "label": ["x"]}), False
    ),
    "one text of a megabyte, 1,000 times": (
        pa.table({
            "text": pa.array(["x" * 10**6] * 1000).dictionary_encode(),
            "label": pa.array(["a", "b"] * 500).dictionary_encode(),
        }),
        True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PARQUETS)
def test_a_parquet_file(tmp_path: Path, name: str) -> None:
    table, is_fine = PARQUETS[name]
    file = tmp_path / "data.parquet"
    pq.write_table(table, file)
    if is_fine:
        assert _read(file) == table.num_rows
        return
    with pytest.raises(UserError, match="data"):
        _read(file)


CORPUS = ("pipe", "socket", "link to a device", "link to itself", "link to nothing")


@pytest.mark.parametrize("damage", CORPUS)
@pytest.mark.parametrize("ending", [".txt", ".txt.gz", ".jsonl"])
def test_what_stands_in_place_of_a_corpus(
    tmp_path: Path, ending: str, damage: str
) -> None:
    file = tmp_path / f"data{ending}"
    file.write_text("a good film\n")
    DAMAGES[damage](file, tmp_path)
    with pytest.raises(UserError, match="data"):
        for part in open_corpus([str(tmp_path)]).files:
            list(part.pieces())


def test_a_line_without_end_in_a_corpus_comes_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_bytes(b"x" * 3_000_000)
    (file,) = open_corpus([str(tmp_path)]).files
    assert [len(piece.text) for piece in file.pieces()] == [10**6] * 3


NUM_CASES = (
    2 * len(CONFIGS)
    + len(DAMAGES)
    + len(FORMATS) * len(DAMAGES)
    + len(DATA)
    + len(PARQUETS)
    + 3 * len(CORPUS)
)

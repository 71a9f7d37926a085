import csv
import io
import json
import os
import random
import threading
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kbert.data import corpus as corpus_module
from kbert.data import pieces as pieces_module
from kbert.data.corpus import (
    MAX_PIECE_CHARACTERS,
    Corpus,
    CorpusOptions,
    Piece,
    Place,
    open_corpus,
)
from kbert.errors import DataError
from tests.data.source_checks import write
from tests.data.test_compressed import PACK

DOCUMENTS = [
    "The first one.\nIt has two lines.",
    "第二个文件。它很短。",
    "  Third, \u2028 with a separator that ends no line and\r no \x0b other either.",
    'Fourth: "quotes", commas,\ttabs and é.',
]
PLAIN = "\n\n \t\r\n".join(DOCUMENTS).encode()


def documents(corpus: Corpus) -> list[str]:
    """The documents of all files, those in several pieces put together again."""
    found: dict[tuple[int, int], str] = {}
    for number, file in enumerate(corpus.files):
        for piece in file.pieces():
            assert 0 < len(piece.text) <= pieces_module.MAX_PIECE_CHARACTERS
            assert not piece.text.isspace()
            key = (number, piece.document)
            found[key] = "".join([found.get(key, ""), piece.text])
    for number in range(len(corpus.files)):
        numbers = [document for file, document in found if file == number]
        assert numbers == list(range(len(numbers)))
    return list(found.values())


def read(*sources: Path | str, **options) -> list[str]:
    return documents(open_corpus([str(s) for s in sources], CorpusOptions(**options)))


def as_csv(delimiter: str) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(
        file, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL
    )
    writer.writerows([["label", "text"], *(["x", text] for text in DOCUMENTS)])
    return file.getvalue().encode()


def as_parquet() -> bytes:
    file = pa.BufferOutputStream()
    pq.write_table(pa.table({"n": range(4), "text": DOCUMENTS}), file)
    return file.getvalue().to_pybytes()


FORMS = {
    "a.txt": PLAIN,
    "a": b"\xef\xbb\xbf\n\n" + PLAIN + b"\n\n\n",
    "a.jsonl": "\n".join(json.dumps({"text": t}) for t in DOCUMENTS).encode(),
    "a.ndjson": "\n".join(json.dumps({"text": t}) for t in [*DOCUMENTS, " "]).encode(),
    "a.csv": as_csv(","),
    "a.tsv": as_csv("\t"),
    "a.parquet": as_parquet(),
}


@pytest.mark.parametrize("ending", ["", *PACK])
@pytest.mark.parametrize("name", FORMS)
def test_a_corpus_is_the_same_in_any_form(tmp_path, name, ending):
    content = FORMS[name]
    path = write(tmp_path / f"{name}{ending}", PACK.get(ending, bytes)(content))
    corpus = open_corpus([str(path)])
    expected = [text.strip() for text in DOCUMENTS]
    assert documents(corpus) == expected
    assert documents(corpus) == expected  # again, as the next epoch
    (file,) = corpus.files
    assert (file.name, file.num_bytes) == (str(path), path.stat().st_size)
    assert corpus.name == "a"
    assert corpus.report.num_documents == 4
    assert corpus.report.num_bytes == sum(len(text.encode()) for text in expected)
    assert (corpus.report.num_broken, corpus.report.broken) == (0, [])


def check_every_start(corpus: Corpus) -> list[Piece]:
    """Checks that a file can be read from any piece on."""
    (file,) = corpus.files
    pieces = list(file.pieces())
    for number, piece in enumerate(pieces):
        place = Place(number, piece.document, piece.line, piece.offset)
        assert list(file.pieces(place)) == pieces[number:]
    return pieces


@pytest.mark.parametrize("ending", ["", *PACK])
@pytest.mark.parametrize("name", FORMS)
def test_reading_can_begin_with_any_piece(tmp_path, name, ending):
    content = PACK.get(ending, bytes)(FORMS[name])
    path = write(tmp_path / f"{name}{ending}", content)
    pieces = check_every_start(open_corpus([str(path)]))
    is_table = "." in name.removesuffix(".txt")
    assert [piece.offset is None for piece in pieces] == [is_table] * 4


@pytest.mark.parametrize("document", ["blank_line", "line", "file"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_reading_can_begin_in_any_text(tmp_path, monkeypatch, document, ending):
    monkeypatch.setattr(pieces_module, "MAX_PIECE_CHARACTERS", 100)
    options = CorpusOptions(document=document, encoding_errors="ignore")
    rng = random.Random(0)
    for _ in range(30):
        alphabet = rng.choice(
            ["ab. \n", "é汉。😀 ", "x\n", "a ", "汉字\n", "ab \n\n\n"]
        )
        text = "z" + "".join(rng.choices(alphabet, k=rng.randrange(1, 900)))
        content = rng.choice([b"", b"\xef\xbb\xbf", b"\xff\n \n"]) + text.encode()
        path = write(tmp_path / f"a{ending}", PACK.get(ending, bytes)(content))
        corpus = open_corpus([str(path)], options)
        for piece in check_every_start(corpus):
            assert piece.offset is not None
            begun = content[piece.offset :].decode(errors="ignore").lstrip()
            assert begun.startswith(piece.text[:9])
    # Of several files read as one, and of those with a limit, too.
    write(tmp_path / "b", "\n\n".join("12345"))
    assert len(check_every_start(open_corpus([str(tmp_path)], options))) > 1
    limited = CorpusOptions(document="line", limit=3)
    assert len(check_every_start(open_corpus([str(tmp_path / "b")], limited))) == 3


def test_what_is_before_an_offset_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces_module, "MAX_PIECE_CHARACTERS", 100)
    path = write(tmp_path / "a.txt", "\n\n".join(f"text {n}" for n in range(1000)))
    (file,) = open_corpus([str(path)]).files
    *_, last = file.pieces()
    read = []
    blocks = pieces_module._blocks

    def counted(stream):
        for block in blocks(stream):
            read.append(block)
            yield block

    monkeypatch.setattr(pieces_module, "_blocks", counted)
    place = Place(999, last.document, last.line, last.offset)
    assert list(file.pieces(place)) == [last]
    assert read == [b"text 999"]
    assert last.line == 1999


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("blank_line", [("one\ntwo", 0, 2), ("three", 1, 6)]),
        ("line", [("one", 0, 2), ("two", 1, 3), ("three", 2, 6)]),
        ("file", [("one\ntwo\n\n \nthree", 0, 2)]),
    ],
)
def test_what_ends_a_document(tmp_path, document, expected):
    write(tmp_path / "a.txt", b"\none\ntwo\n\n \nthree")
    options = CorpusOptions(document=document)
    (file,) = open_corpus([str(tmp_path)], options).files
    assert [(p.text, p.document, p.line) for p in file.pieces()] == expected


@pytest.mark.parametrize("small", [0, corpus_module.SMALL_BYTES])
@pytest.mark.parametrize("document", ["blank_line", "line", "file"])
def test_a_limit_counts_documents_of_a_file(tmp_path, monkeypatch, document, small):
    monkeypatch.setattr(corpus_module, "SMALL_BYTES", small)
    for name in "ab":
        write(tmp_path / name, "\n\n".join(f"{name}{n}" for n in "123"))
    limited = {"document": document, "limit": 2}
    if document == "file":
        expected = ["a1\n\na2\n\na3", "b1\n\nb2\n\nb3"]
    else:
        expected = ["a1", "a2", "b1", "b2"]
    assert read(tmp_path, **limited) == expected


class TestPieces:
    @pytest.fixture(autouse=True)
    def short(self, monkeypatch):
        monkeypatch.setattr(pieces_module, "MAX_PIECE_CHARACTERS", 1000)

    def pieces(self, path: Path, text: str, **options) -> list[Piece]:
        """The pieces of a text, which are the same if it is a cell of a table."""
        write(path / "a.txt", text)
        write(path / "b.jsonl", json.dumps({"text": text}))
        found = []
        for name in ("a.txt", "b.jsonl"):
            options = CorpusOptions(document="file")
            (file,) = open_corpus([str(path / name)], options).files
            found.append(list(file.pieces()))
            assert all(len(piece.text) <= 1000 for piece in found[-1])
            assert {piece.document for piece in found[-1]} == {0}
            whole = "".join("".join(piece.text for piece in found[-1]).split())
            assert whole == "".join(text.split())
        return found[0]

    def test_are_cut_at_line_ends(self, tmp_path):
        lines = [f"Line {n}. It has: two sentences" for n in range(1, 200)]
        pieces = self.pieces(tmp_path, "\n".join(lines))
        assert len(pieces) == 7
        assert [line for p in pieces for line in p.text.split("\n")] == lines
        for piece in pieces:
            assert piece.text.startswith(f"Line {piece.line}. It")

    def test_are_cut_after_sentences(self, tmp_path):
        text = " ".join(f"This is sentence {n} of them all." for n in range(200))
        pieces = self.pieces(tmp_path, text)
        assert len(pieces) == 7
        assert all(p.text.startswith("This") for p in pieces)
        assert all(p.text.endswith("all.") for p in pieces)
        assert {p.line for p in pieces} == {1}

    def test_are_cut_after_chinese_sentences(self, tmp_path):
        text = "他说：「这是第一句话。」" * 300  # noqa: RUF001
        pieces = self.pieces(tmp_path, text)
        assert len(pieces) == 4
        assert all(p.text.startswith("他") and p.text.endswith("」") for p in pieces)

    def test_are_cut_at_spaces_and_else_between_characters(self, tmp_path):
        pieces = self.pieces(tmp_path, " ".join(f"word{n}" for n in range(999)))
        assert all(p.text.startswith("word") for p in pieces)
        for character in "xé汉😀":
            pieces = self.pieces(tmp_path, character * 5000)
            assert {c for p in pieces for c in p.text} == {character}
            # Characters that are cut off are left to the next piece.
            assert len(pieces) <= 5000 * len(character.encode()) / 997 + 1

    def test_random_text_is_whole(self, tmp_path):
        rng = random.Random(0)
        for _ in range(20):
            alphabet = rng.choice(["ab. \n", "é汉。😀 ", "x\n", "a ", "汉字\n"])
            text = "z" + "".join(rng.choices(alphabet, k=rng.randrange(1, 6000)))
            whole = "".join(piece.text for piece in self.pieces(tmp_path, text))
            # Between two pieces only spaces and line ends are left out.
            assert "".join(whole.split()) == "".join(text.split())


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("end", ["\n", " "])
def test_memory_does_not_grow_with_the_file(tmp_path, end, ending):
    """Of one line too, and of one document."""
    num_bytes = 30_000_000
    sentence = "Some words of a text that goes on and on, as texts do."
    text = f"{sentence * 20}{end}"
    content = (text * (num_bytes // len(text))).encode()
    path = write(tmp_path / f"a.txt{ending}", PACK.get(ending, bytes)(content))
    del content
    tracemalloc.start()
    try:
        corpus = open_corpus([str(path)])
        sizes = [len(piece.text) for piece in corpus.files[0].pieces()]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert max(sizes) <= MAX_PIECE_CHARACTERS
    assert sum(sizes) > 0.99 * num_bytes
    assert peak < 12 * MAX_PIECE_CHARACTERS
    assert corpus.report.num_documents == 1


class TestBrokenBytes:
    CONTENT = b"good\n\nb\xc3\xff d\nfine\n\xffgone\xff\n\xf0\x9f\x98\x80\n"

    def corpus(self, path: Path, errors: str) -> Corpus:
        write(path / "a.txt", self.CONTENT)
        write(path / "b.txt.gz", PACK[".gz"](b"x\n\xe9t\xe9"))
        return open_corpus([str(path)], CorpusOptions(encoding_errors=errors))

    @pytest.mark.parametrize("errors", ["replace", "ignore"])
    def test_are_counted_with_file_and_line(self, tmp_path, errors):
        corpus = self.corpus(tmp_path, errors)
        expected = [
            text.decode(errors=errors)
            for text in (*self.CONTENT.strip().split(b"\n\n"), b"x\n\xe9t\xe9")
        ]
        for _ in range(2):  # a second reading does not count them again
            assert documents(corpus) == expected
            report = corpus.report
            assert report.num_broken == 3
            places = [f"{tmp_path}/a.txt, line {n}" for n in (3, 5)]
            assert report.broken == [*places, f"{tmp_path}/b.txt.gz, line 2"]
        assert "in 3: " in report.summary()
        assert report.summary().endswith("b.txt.gz, line 2")

    def test_are_an_error_if_wished(self, tmp_path):
        corpus = self.corpus(tmp_path, "strict")
        with pytest.raises(DataError, match=r"a\.txt, line 3: invalid UTF-8 \(byte 0x"):
            documents(corpus)

    def test_the_first_few_places_are_named(self, tmp_path):
        write(tmp_path / "a", b"\xff a\n" * 1234)
        corpus = open_corpus([str(tmp_path)])
        documents(corpus)
        assert corpus.report.num_broken == 1234
        assert corpus.report.broken == [f"{tmp_path}/a, line {n}" for n in range(1, 6)]
        assert corpus.report.summary().endswith("a, line 5; and 1,229 more")

    def test_a_line_in_several_pieces_counts_once(self, tmp_path, monkeypatch):
        monkeypatch.setattr(pieces_module, "MAX_PIECE_CHARACTERS", 100)
        write(tmp_path / "a", b"ok\n" + b"broken \xff " * 100 + b"\nok")
        corpus = open_corpus([str(tmp_path)])
        assert len(list(corpus.files[0].pieces())) > 10
        assert corpus.report.broken == [f"{tmp_path}/a, line 2"]

    @pytest.mark.parametrize("errors", ["replace", "ignore"])
    def test_of_tables_have_a_row(self, tmp_path, errors):
        write(tmp_path / "a.csv", b"text,label\nok,1\nb\xffd,2\n")
        write(tmp_path / "b.jsonl", b'{"text": "b\xff"}\n{"text": "\\ud800c"}\n')
        corpus = open_corpus([str(tmp_path)], CorpusOptions(encoding_errors=errors))
        mark = "\ufffd" if errors == "replace" else ""
        assert documents(corpus) == ["ok", f"b{mark}d", f"b{mark}", f"{mark}c"]
        places = [("a.csv", 2), ("b.jsonl", 1), ("b.jsonl", 2)]
        assert corpus.report.broken == [f"{tmp_path}/{f}, row {n}" for f, n in places]

    def test_of_tables_are_an_error_if_wished(self, tmp_path):
        write(tmp_path / "a.csv", b"text,label\nok,1\nb\xffd,2\n")
        with pytest.raises(DataError, match=r"a\.csv, line 3: invalid UTF-8"):
            read(tmp_path, encoding_errors="strict")


class TestFiles:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        for name in ("b/2.txt", "b/10.txt", "a.txt", "b/c/deep", ".hidden", ".git/x"):
            write(tmp_path / name, name)
        return tmp_path

    def test_of_a_folder_are_sorted_and_hidden_ones_left_out(self, folder):
        expected = ["a.txt", "b/10.txt", "b/2.txt", "b/c/deep"]
        assert read(folder) == expected
        # The order is that of the files, however they were named.
        assert read(folder / "b" / "c" / "deep", folder / "b", folder) == expected

    def test_of_globs(self, folder, monkeypatch):
        assert read(folder / "b" / "*.txt") == ["b/10.txt", "b/2.txt"]
        assert read(folder / "**" / "*.txt") == ["a.txt", "b/10.txt", "b/2.txt"]
        assert read(folder / "[b]") == ["b/10.txt", "b/2.txt", "b/c/deep"]
        write(folder / "x[1].txt", "as it is named")
        assert read(folder / "x[1].txt") == ["as it is named"]
        monkeypatch.setenv("HOME", str(folder))
        assert read("~/a*") == ["a.txt"]

    def test_are_read_once(self, folder):
        (folder / "link.txt").symlink_to(folder / "a.txt")
        (folder / "b" / "up").symlink_to(folder)
        corpus = open_corpus([str(folder), str(folder / "b"), str(folder / "a.txt")])
        assert documents(corpus) == ["a.txt", "b/10.txt", "b/2.txt", "b/c/deep"]
        (note,) = corpus.notes
        assert note.endswith("more files: named twice, read once")
        one_more = open_corpus([str(folder / "b" / "*.txt")] * 2)
        assert one_more.notes[0].endswith(
            ".txt and 1 more file: named twice, read once"
        )
        again = open_corpus([str(folder / "a.txt"), f"{folder}/b/../a.txt"])
        assert documents(again) == ["a.txt"]
        assert again.notes == (f"{folder}/b/../a.txt: named twice, read once",)

    def test_small_ones_are_read_together(self, tmp_path, monkeypatch):
        monkeypatch.setattr(corpus_module, "SMALL_BYTES", 100)
        monkeypatch.setattr(corpus_module, "TOGETHER_BYTES", 150)
        texts = [chr(97 + n) * (200 if n in (3, 7) else 60) for n in range(10)]
        texts[1] = " \n"
        for n, text in enumerate(texts):
            write(tmp_path / f"{n}.txt", text)
        corpus = open_corpus([str(tmp_path)], CorpusOptions(document="file"))
        assert [len(list(file.pieces())) for file in corpus.files] == [1, 3, 1, 3, 1]
        assert sorted(documents(corpus)) == sorted(t for t in texts if t.strip())
        assert [file.name.removeprefix(f"{tmp_path}/") for file in corpus.files] == [
            "3.txt",
            "0.txt and 3 more files",
            "7.txt",
            "5.txt and 2 more files",
            "9.txt",
        ]
        assert corpus.num_bytes == sum(map(len, texts))
        assert corpus.report.num_documents == 9

    def test_have_fingerprints_of_their_content(self, tmp_path):
        def prints() -> list[str]:
            return [file.fingerprint for file in open_corpus([str(tmp_path)]).files]

        large = write(tmp_path / "a.txt", "x" * 1_000_000)
        small = write(tmp_path / "b.txt", "some text")
        before = prints()
        assert before == prints() and len(set(before)) == 2
        small = small.rename(tmp_path / "c")
        assert prints() == before
        write(small, "some text!")
        assert [a == b for a, b in zip(before, prints(), strict=True)] == [True, False]
        before = prints()
        os.utime(large, ns=(0, 0))  # as a copy on another machine
        assert prints() == before
        write(large, "x" * 999_999 + "y")
        assert [a == b for a, b in zip(before, prints(), strict=True)] == [False, True]
        before = prints()
        write(tmp_path / "d", "one more small file")
        assert [a == b for a, b in zip(before, prints(), strict=True)] == [True, False]

    def test_can_be_read_in_threads(self, tmp_path, monkeypatch):
        monkeypatch.setattr(corpus_module, "SMALL_BYTES", 0)
        for name in "abcd":
            write(tmp_path / name, f"{name}\xff\n\n" * 5000)
        corpus = open_corpus([str(tmp_path)])
        threads = [
            threading.Thread(target=lambda f=file: list(f.pieces()))
            for file in corpus.files
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert corpus.report.num_documents == 20_000


class TestMistakes:
    def refused(self, *sources: Path | str, **options) -> str:
        with pytest.raises(DataError) as caught:
            open_corpus([str(s) for s in sources], CorpusOptions(**options))
        return str(caught.value)

    def test_nothing_there(self, tmp_path):
        assert "needs at least one of files, globs, folders" in self.refused()
        assert "None was given" in self.refused(" ")
        assert "matches no file" in self.refused(tmp_path / "*.txt")
        assert "is a folder without files" in self.refused(tmp_path)
        write(tmp_path / ".hidden", "x")
        assert "is a folder without files" in self.refused(tmp_path)
        write(tmp_path / "reviews.txt", "x")
        message = self.refused(tmp_path / "reveiws.txt")
        assert f"Nearest in {tmp_path}: reviews.txt. A corpus is made of" in message
        assert "data.limit must be at least 1" in self.refused("sample", limit=0)

    def test_an_empty_corpus(self, tmp_path):
        write(tmp_path / "a", b"")
        write(tmp_path / "b", b"")
        message = self.refused(tmp_path)
        assert "corpus is empty" in message and f"{tmp_path}/b has no bytes" in message
        write(tmp_path / "c", b"\n \n\t\n")
        corpus = open_corpus([str(tmp_path)])
        assert documents(corpus) == []
        assert corpus.report.num_documents == 0

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("a.txt", bytes(range(256)) * 9, "is not UTF-8 text: it looks like a bin"),
            ("a.txt", "text".encode("utf-16"), "it looks like UTF-16 text"),
            ("a.pdf", b"%PDF-1.4\n...", "it looks like a PDF"),
            (
                "a.tar.gz",
                PACK[".gz"](bytes(257) + b"ustar"),
                "is a tar archive; unpack",
            ),
            ("a.txt.gz", b"plain", "is not a valid gzip file"),
            ("a.txt.gz", PACK[".gz"](bytes(range(256)) * 9), "looks like a binary"),
            ("a.json", b"[]", "is JSON and not JSON lines.*jq -c"),
            ("a.jsonl", b"hello", r"a\.jsonl, line 1, column 1: invalid JSON"),
            ("a.csv", b"id,number\n1,2\n", "which column is the text is not clear"),
        ],
    )
    def test_files_that_are_no_text(self, tmp_path, name, content, message):
        good = write(tmp_path / "0.txt", "good")
        write(tmp_path / name, content)
        with pytest.raises(DataError, match=message):
            open_corpus([str(tmp_path)])
        assert read(good) == ["good"]

    def test_a_column_that_is_not_there(self, tmp_path):
        write(tmp_path / "a.csv", b"title,body\nx,y\n")
        message = self.refused(tmp_path)
        assert "Choose with --set data.text=title or --set data.text=body" in message
        assert read(tmp_path, text="body") == ["y"]
        assert 'no column "boddy"' in self.refused(tmp_path, text="boddy")

    def test_what_can_be_read_only_once(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        assert "is no regular file" in self.refused(tmp_path)
        (tmp_path / "pipe").unlink()
        (tmp_path / "link").symlink_to(tmp_path / "nothing")
        assert "link cannot be read: No such file" in self.refused(tmp_path)

    def test_a_file_that_is_damaged_further_on(self, tmp_path):
        packed = PACK[".gz"](b"".join(b"%d\n\n" % (n**3) for n in range(300_000)))
        write(tmp_path / "a.gz", packed[:-1000])
        corpus = open_corpus([str(tmp_path)])
        with pytest.raises(DataError, match=r"a\.gz is a damaged gzip file, readable"):
            documents(corpus)


def test_settings_without_effect_are_noted(tmp_path):
    table = str(write(tmp_path / "a.csv", b"text\nx\n"))
    plain = str(write(tmp_path / "a.txt", b"x"))

    def idle(source: str, **options) -> dict[str, str]:
        return dict(open_corpus([source], CorpusOptions(**options)).idle)

    row, none = "a row of a table is a document", "plain text has no columns"
    assert idle(table, document="line") == {"data.document": row}
    assert idle(plain, text="body") == {"data.text": none}
    assert idle(plain, split="test") == {"data.train_split": "files have no splits"}
    assert idle(plain, data_dir="x").keys() == {"data.data_dir"}
    assert idle(table, text="text") == idle(plain, document="line") == {}


def test_a_pair_of_columns_is_one_document(tmp_path):
    write(tmp_path / "a.csv", b"premise,hypothesis,label\na,b,1\nc,,0\n")
    corpus = open_corpus([str(tmp_path)])
    assert documents(corpus) == ["a\nb", "c"]
    assert "text columns: premise and hypothesis" in corpus.notes[0]


def test_the_sample():
    corpus = open_corpus(["sample"])
    texts = documents(corpus)
    assert len(texts) == corpus.report.num_documents > 10
    assert corpus.name == "sample"
    assert corpus.files[0].name == "sample train"
    assert corpus.num_bytes is None
    validation = open_corpus(["sample", "sample"], CorpusOptions(split="validation"))
    assert len(validation.files) == 1
    assert not set(documents(validation)) & set(texts)


def test_real_unsupervised_reviews(shared_dir):
    options = CorpusOptions(
        split="unsupervised[:10%]",
        data_dir=str(shared_dir / "data" / "tfds"),
    )
    corpus = open_corpus(["tfds:imdb_reviews"], options)
    (file,) = corpus.files
    assert corpus.name == "imdb_reviews"
    assert file.name == "tfds:imdb_reviews unsupervised[:10%]"
    assert file.num_bytes is None
    assert "imdb_reviews/plain_text/1.0.0" in file.fingerprint
    pieces = list(file.pieces())
    assert [piece.document for piece in pieces] == list(range(5000))
    assert [piece.line for piece in pieces] == list(range(1, 5001))
    assert corpus.report.num_documents == 5000
    assert 6e6 < corpus.report.num_bytes < 7e6
    short = CorpusOptions(
        split=options.split, data_dir=options.data_dir, limit=7, text="text"
    )
    assert len(documents(open_corpus(["tfds:imdb_reviews"], short))) == 7
    with pytest.raises(DataError, match='has no split "nonsense"'):
        open_corpus(
            ["tfds:imdb_reviews"],
            CorpusOptions(split="nonsense", data_dir=options.data_dir),
        )

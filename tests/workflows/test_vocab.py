"""`kbert vocab` as a workflow: from files to a file."""

import gzip
import io
import logging
from pathlib import Path

import pytest

from kbert.errors import ConfigError, DataError
from kbert.pretrain_settings import CorpusSettings
from kbert.vocabulary import read_vocabulary
from kbert.vocabulary_training import train_vocabulary
from kbert.workflows.vocab import make_vocabulary

TEXT = "The cat sat.\nThe mat sat too.\n\nA cat, a mat: at last!\n" * 3


@pytest.fixture
def corpus(tmp_path: Path) -> CorpusSettings:
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT, encoding="utf-8")
    return CorpusSettings(sources=[str(path)])


def test_writes_what_was_learned(corpus: CorpusSettings, tmp_path: Path) -> None:
    output = tmp_path / "vocab.txt"
    returned = make_vocabulary(corpus, output, size=30)
    expected = train_vocabulary([TEXT], size=30, lowercase=True, strip_accents=True)
    assert len(expected) == 30
    assert returned == expected
    assert output.read_bytes() == ("\n".join(expected) + "\n").encode()
    assert read_vocabulary(output) == expected


def test_files_are_read_as_the_settings_say(tmp_path: Path) -> None:
    table = tmp_path / "table.jsonl.gz"
    table.write_bytes(
        gzip.compress(b'{"id": "ba", "body": "caf\xc3\xa9 CAF\xc3\xa9"}\n')
    )
    data = CorpusSettings(sources=[str(table)], text="body", limit=1)
    for case, word in (
        ({"lowercase": True, "strip_accents": True}, "cafe"),
        ({"lowercase": True, "strip_accents": False}, "café"),
        ({"lowercase": False, "strip_accents": False}, "CAFé"),
    ):
        output = tmp_path / f"{word}.txt"
        vocabulary = make_vocabulary(data, output, min_frequency=1, **case)
        assert word in vocabulary
        assert "ba" not in vocabulary


def test_says_what_was_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "broken.txt"
    path.write_bytes(TEXT.encode() + b"the\xffcat\n")
    stream = io.StringIO()
    with caplog.at_level(logging.INFO, "kbert"):
        vocabulary = make_vocabulary(
            CorpusSettings(sources=[str(path)]),
            tmp_path / "vocab.txt",
            size=1000,
            progress=stream,
        )
    assert stream.getvalue().startswith("vocabulary  documents 4")
    assert f"broken.txt, line {TEXT.count(chr(10)) + 1}" in caplog.text
    assert f"{len(vocabulary)} tokens in place of 1,000" in caplog.text


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_nothing_is_overwritten(
    kind: str, corpus: CorpusSettings, tmp_path: Path
) -> None:
    output = tmp_path / "vocab.txt"
    if kind == "file":
        output.write_text("mine")
    elif kind == "folder":
        output.mkdir()
    else:
        output.symlink_to("nowhere")
    with pytest.raises(ConfigError, match=r"vocab\.txt exists.*another --output"):
        make_vocabulary(corpus, output)
    if kind == "file":
        assert output.read_text() == "mine"


def test_the_output_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    missing = CorpusSettings(sources=[str(tmp_path / "none.txt")])
    with pytest.raises(ConfigError, match="there is no folder"):
        make_vocabulary(missing, tmp_path / "missing" / "vocab.txt")


def test_a_mistake_leaves_no_file(corpus: CorpusSettings, tmp_path: Path) -> None:
    blank = tmp_path / "blank.txt"
    blank.write_text("\n  \n\n")
    output = tmp_path / "out" / "vocab.txt"
    output.parent.mkdir()
    with pytest.raises(DataError, match="none"):
        make_vocabulary(CorpusSettings(sources=[str(blank)]), output)
    with pytest.raises(ConfigError, match="a size of 6"):
        make_vocabulary(corpus, output, size=6)
    assert list(output.parent.iterdir()) == []

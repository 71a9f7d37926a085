"""`kbert vocab`."""

from pathlib import Path

import pytest

from kbert.vocabulary import read_vocabulary
from tests.cli.conftest import Kbert

TEXT = "The café sat.\n\nThe cat sat on the Café mat.\n" * 3


@pytest.fixture
def corpus(kbert: Kbert) -> Path:
    """A file in the working directory of the command."""
    path = Path("corpus.txt")
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_without_arguments_the_sample(kbert: Kbert) -> None:
    outcome = kbert("vocab", "--size", "500")
    assert outcome.code == 0
    assert outcome.out.splitlines() == [
        "vocabulary: vocab.txt (500 tokens)",
        "Try next:",
        "  kbert pretrain --vocabulary vocab.txt",
    ]
    assert "read 802 documents" in outcome.err
    vocabulary = read_vocabulary("vocab.txt")
    assert vocabulary[:5] == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert len(vocabulary) == 500
    assert "the" in vocabulary


def test_the_same_text_gives_the_same_file(kbert: Kbert, corpus: Path) -> None:
    for output in ("1.txt", "2.txt"):
        assert kbert("vocab", corpus, "--output", output).code == 0
    assert Path("1.txt").read_bytes() == Path("2.txt").read_bytes()


@pytest.mark.parametrize(
    ("option", "words", "settings"),
    [
        (None, {"cafe", "the"}, ""),
        ("--keep-accents", {"café", "the"}, " --set model.strip_accents=false"),
        ("--cased", {"café", "Café", "The", "the"}, " --set model.lowercase=false"),
    ],
)
def test_case_and_accents(
    kbert: Kbert,
    corpus: Path,
    option: str | None,
    words: set[str],
    settings: str,
) -> None:
    outcome = kbert("vocab", corpus, *([option] if option else []))
    vocabulary = read_vocabulary("vocab.txt")
    found = {t for t in vocabulary if t.lower() in ("cafe", "café", "the")}
    assert found == words
    command = f"  kbert pretrain corpus.txt --vocabulary vocab.txt{settings}"
    assert outcome.out.splitlines()[-1] == command


def test_settings_of_reading(kbert: Kbert, corpus: Path) -> None:
    outcome = kbert(
        *("vocab", corpus, "--min-frequency", 1),
        *("--set", "data.document=line", "--set", "data.limit=1"),
    )
    assert "read 1 documents" in outcome.err
    assert "mat" not in read_vocabulary("vocab.txt")
    assert "vocab.txt --set data.document=line --set data.limit=1\n" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.txt"], "none.txt"),
        (["corpus.txt", "--size", "7"], "at least 22 tokens, received a size of 7"),
        (["corpus.txt", "--size", "5"], "6<=x<=1000000"),
        (["corpus.txt", "--min-frequency", "0"], "x>=1"),
        (["corpus.txt", "--min-frequency", "1000"], "fewer than 1,000 times"),
        (["corpus.txt", "--output", "corpus.txt"], "corpus.txt exists"),
        (["corpus.txt", "--output", "no/vocab.txt"], "there is no folder no"),
        (["corpus.txt", "--cased", "--keep-accents"], "leave --keep-accents out"),
        (["corpus.txt", "--set", "data.document=page"], "data.document"),
        (["corpus.txt", "--set", "train.seed=1"], "unknown setting train.seed"),
        (["empty.txt"], "empty"),
        (["blank.txt"], "the texts hold none"),
        (["word.txt"], "a minimum frequency of 1"),
    ],
)
def test_mistakes(
    kbert: Kbert, corpus: Path, arguments: list[str], message: str
) -> None:
    Path("empty.txt").touch()
    Path("blank.txt").write_text("\n \n\n")
    Path("word.txt").write_text("word\n")
    before = sorted(Path().iterdir())
    outcome = kbert("vocab", *arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert message in outcome.message
    assert sorted(Path().iterdir()) == before
    assert corpus.read_text(encoding="utf-8") == TEXT

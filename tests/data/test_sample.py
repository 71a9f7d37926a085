"""The embedded sample: what its README promises, and what training on it needs."""

import csv
import json
import re
import shutil
import string
import subprocess
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest
from tokenizers import BertWordPieceTokenizer

import kbert

SAMPLE = Path(kbert.__file__).parent / "data" / "sample"
PRESET = SAMPLE / "preset"
VOCABULARY = PRESET / "assets" / "tokenizer" / "vocabulary.txt"
FILES = ("train.csv", "validation.csv")
SENTIMENT_WORDS = (
    "amazing awful bad beautiful best boring brilliant broke comfortable delicious "
    "dirty disappointing excellent friendly good great horrible love loved perfect "
    "poor rude superb terrible useless waste wonderful worst"
).split()


def read_rows(name: str) -> list[dict[str, str]]:
    with open(SAMPLE / name, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        rows = list(reader)
    assert reader.fieldnames == ["text", "label"]
    return rows


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:'[^\W_]+)?", text.casefold())


def trigrams(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return set(zip(found, found[1:], found[2:], strict=False))


@pytest.fixture(scope="module")
def vocabulary() -> list[str]:
    return VOCABULARY.read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def tokenizer(vocabulary: list[str]) -> BertWordPieceTokenizer:
    ids = {word: index for index, word in enumerate(vocabulary)}
    return BertWordPieceTokenizer(ids, lowercase=True, strip_accents=True)


@pytest.mark.parametrize(("name", "at_least"), [("train.csv", 700), (FILES[1], 140)])
def test_file_is_large_enough_and_balanced(name: str, at_least: int) -> None:
    labels = Counter(row["label"] for row in read_rows(name))
    assert set(labels) == {"negative", "positive"}
    assert labels["negative"] == labels["positive"]
    assert labels.total() >= at_least


@pytest.mark.parametrize("name", FILES)
def test_every_row_is_a_short_clean_review(name: str) -> None:
    for row in read_rows(name):
        assert None not in row and None not in row.values(), row
        text = row["text"]
        assert text == " ".join(text.split()), text
        assert 5 <= len(text.split()) <= 45, text


@pytest.mark.parametrize("name", FILES)
def test_labels_are_mixed_in_the_files_order(name: str) -> None:
    labels = [row["label"] for row in read_rows(name)]
    assert max(len(list(run)) for _, run in groupby(labels)) <= 15


def test_no_review_occurs_twice_within_or_across_the_files() -> None:
    texts = [" ".join(words(row["text"])) for name in FILES for row in read_rows(name)]
    assert [text for text, count in Counter(texts).items() if count > 1] == []


def test_no_two_reviews_are_nearly_the_same() -> None:
    """Word trigrams in common, as a share of all trigrams of the two (Jaccard)."""
    texts = [row["text"] for name in FILES for row in read_rows(name)]
    grams = [trigrams(text) for text in texts]
    holders: dict[tuple[str, ...], list[int]] = {}
    for index, found in enumerate(grams):
        for gram in found:
            holders.setdefault(gram, []).append(index)
    pairs = {
        (first, second)
        for indices in holders.values()
        for first in indices
        for second in indices
        if first < second
    }
    alike = [
        (texts[first], texts[second])
        for first, second in pairs
        if len(grams[first] & grams[second]) > 0.2 * len(grams[first] | grams[second])
    ]
    assert alike == []


def test_readme_gives_the_counts_of_the_files() -> None:
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    for name in FILES:
        labels = Counter(row["label"] for row in read_rows(name))
        counts = f"{labels.total()} | {labels['positive']} | {labels['negative']}"
        assert f"| `{name}` | {counts} |" in readme


def test_vocabulary_starts_with_the_special_tokens_and_has_no_duplicates(
    vocabulary: list[str],
) -> None:
    assert vocabulary[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert len(set(vocabulary)) == len(vocabulary)
    assert not [word for word in vocabulary if word != word.strip() or not word]


def test_common_sentiment_words_are_whole_tokens(vocabulary: list[str]) -> None:
    assert set(SENTIMENT_WORDS) - set(vocabulary) == set()


def test_every_ascii_text_tokenizes_without_unknown_tokens(
    tokenizer: BertWordPieceTokenizer,
) -> None:
    signs = string.ascii_letters + string.digits
    texts = [first + second for first in signs for second in signs]
    texts += [
        *string.punctuation,
        "Zwölf cafés — “voilà” for £5…",
        "it\u2019s",
        "xqzjk0v9w",
    ]
    for text in texts:
        assert "[UNK]" not in tokenizer.encode(text).tokens, text


def test_sample_fits_the_preset_without_unknown_tokens(
    tokenizer: BertWordPieceTokenizer,
) -> None:
    config = json.loads((PRESET / "config.json").read_text(encoding="utf-8"))["config"]
    for row in [row for name in FILES for row in read_rows(name)]:
        tokens = tokenizer.encode(row["text"]).tokens
        assert "[UNK]" not in tokens, row["text"]
        assert len(tokens) <= config["max_sequence_length"]


def test_preset_describes_an_uncased_bert_of_the_vocabularys_size(
    vocabulary: list[str],
) -> None:
    backbone = json.loads((PRESET / "config.json").read_text(encoding="utf-8"))
    assert backbone["registered_name"] == "keras_hub>BertBackbone"
    assert backbone["config"]["vocabulary_size"] == len(vocabulary)
    assert backbone["config"]["hidden_dim"] % backbone["config"]["num_heads"] == 0
    tokenizer = json.loads((PRESET / "tokenizer.json").read_text(encoding="utf-8"))
    assert tokenizer["registered_name"] == "keras_hub>BertTokenizer"
    assert tokenizer["config"]["lowercase"] is True
    assert tokenizer["config"]["strip_accents"] is True


def test_readmes_command_writes_the_same_vocabulary(tmp_path: Path) -> None:
    folder = tmp_path / "sample"
    shutil.copytree(SAMPLE, folder)
    copy = folder / VOCABULARY.relative_to(SAMPLE)
    copy.unlink()
    readme = (SAMPLE / "README.md").read_text(encoding="utf-8")
    script = re.search(r"python - <<'END'\n(.*?)\nEND\n", readme, re.DOTALL)
    assert script is not None
    subprocess.run([sys.executable, "-c", script[1]], cwd=folder, check=True)
    assert copy.read_bytes() == VOCABULARY.read_bytes()


def test_everything_the_package_carries_is_small() -> None:
    size = sum(path.stat().st_size for path in SAMPLE.rglob("*") if path.is_file())
    assert size < 300_000

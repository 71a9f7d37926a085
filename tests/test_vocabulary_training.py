"""A vocabulary learned from text, against a slow learner and other tokenizers."""

import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import tensorflow as tf
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from kbert import vocabulary_training
from kbert.data.corpus import CorpusOptions, open_corpus
from kbert.errors import ConfigError, DataError
from kbert.tokenization import WordPieceTokenizer
from kbert.vocabulary import SPECIAL_TOKENS
from kbert.vocabulary_training import count_words, learn_pieces, train_vocabulary
from tests.reference_tokenizer import ReferenceTokenizer

CHINESE = [
    "北京是中国的首都。",
    "中国的首都是北京。",
    "上海 shanghai 很大、北京也很大。",
]
UNCASED = {"lowercase": True, "strip_accents": True}
CASED = {"lowercase": False, "strip_accents": False}


@pytest.fixture(scope="module")
def sample() -> list[str]:
    """The reviews that kbert carries."""
    return [p.text for f in open_corpus(["sample"]).files for p in f.pieces()]


@pytest.fixture(scope="module")
def vocabulary(sample: list[str]) -> tuple[str, ...]:
    """Of the sample, 1,000 tokens."""
    return train_vocabulary(sample, size=1000, **UNCASED)


def reference_tokenizer(vocabulary: tuple[str, ...], **case: bool):
    token_ids = {token: number for number, token in enumerate(vocabulary)}
    return ReferenceTokenizer(token_ids, **case)


def tokenize(text: str, vocabulary: tuple[str, ...], **case: bool) -> list[str]:
    ids = reference_tokenizer(vocabulary, **case).tokenize(text.encode())
    return [vocabulary[token_id] for token_id in ids]


def learn_slowly(words: Counter[str], size: int, min_frequency: int) -> list[str]:
    """BPE as Sennrich et al. 2016 describe it, every pair counted anew each time.

    Of equally frequent pairs it takes the one whose tokens have the lowest ids. It
    shares nothing with kbert but the names of the special tokens.
    """
    characters = {c for word in words for c in word}
    inner = {c for word in words for c in word[1:]}
    tokens = [*SPECIAL_TOKENS, *sorted(characters), *("##" + c for c in sorted(inner))]
    splits = {word: [word[0], *("##" + c for c in word[1:])] for word in words}
    while len(tokens) < size:
        ids = {token: number for number, token in enumerate(tokens)}
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in splits.items():
            for pair in pairwise(pieces):
                pairs[pair] += words[word]
        if not pairs or max(pairs.values()) < min_frequency:
            break
        best = min(pairs, key=lambda p: (-pairs[p], ids[p[0]], ids[p[1]]))
        merged = best[0] + best[1].removeprefix("##")
        if merged not in ids:
            tokens.append(merged)
        splits = {word: merge(pieces, best, merged) for word, pieces in splits.items()}
    return tokens


def merge(pieces: list[str], pair: tuple[str, str], merged: str) -> list[str]:
    result: list[str] = []
    for piece in pieces:
        if result and (result[-1], piece) == pair:
            result[-1] = merged
        else:
            result.append(piece)
    return result


def test_the_pieces_are_those_of_a_slow_learner(sample: list[str]) -> None:
    plain = [text.lower() for text in sample if text.isascii()][:150]
    words = Counter(re.findall(r"[a-z0-9]+|[^\sa-z0-9]", " ".join(plain)))
    characters = Counter("".join(plain))
    common = {c for c, number in characters.items() if number >= 2}
    words = Counter({w: n for w, n in words.items() if common.issuperset(w)})
    assert len(words) > 1000
    expected = learn_slowly(words, size=400, min_frequency=2)
    assert len(expected) == 400
    assert list(train_vocabulary(plain, size=400, **UNCASED)) == expected


def test_learning_ends_where_no_pair_is_frequent_enough() -> None:
    words = Counter({"abab": 3, "abc": 2, "cab": 1, "c": 9})
    for min_frequency in (1, 2, 3, 4, 6, 9):
        expected = learn_slowly(words, size=100, min_frequency=min_frequency)
        learned = learn_pieces(words, size=100, min_frequency=min_frequency)
        assert list(learned) == expected, min_frequency
    assert "abab" in learn_pieces(words, size=100, min_frequency=3)
    assert "abab" not in learn_pieces(words, size=100, min_frequency=4)


LEARN = """
import sys
from pathlib import Path
from kbert.vocabulary_training import train_vocabulary
for file in sys.argv[1:]:
    texts = Path(file).read_text("utf-8").splitlines()
    print(train_vocabulary(texts, size=5000, lowercase=True, strip_accents=True))
"""


def varied(texts: list[str]) -> Iterator[str]:
    """Ten times as much text, in which many pairs are equally frequent."""
    random_numbers = random.Random(4)
    for text in texts * 10:
        words = text.split()
        random_numbers.shuffle(words)
        yield " ".join(words[: random_numbers.randrange(2, 30)])


def write_imdb(shared_dir: Path, path: Path) -> None:
    options = CorpusOptions(
        data_dir=str(shared_dir / "data" / "tfds"), split="unsupervised", limit=2000
    )
    (file,) = open_corpus(["tfds:imdb_reviews"], options).files
    path.write_text("\n".join(p.text for p in file.pieces()), "utf-8")


def test_every_process_learns_the_same(
    sample: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The library numbers by hash tables, which differ from process to process."""
    files = [tmp_path / "varied.txt"]
    files[0].write_text("\n".join(varied(sample)), "utf-8")
    try:
        files.append(tmp_path / "imdb.txt")
        write_imdb(request.getfixturevalue("shared_dir"), files[1])
    except pytest.skip.Exception:  # without the real data the sample must do
        files.pop()
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LEARN, *map(str, files)],
            stdout=subprocess.PIPE,
            env=os.environ
            | {"RAYON_NUM_THREADS": str(threads), "PYTHONHASHSEED": str(threads)},
        )
        for threads in (1, 8)
    ]
    here: list[str] = []
    # In this process twice: the library's hash tables differ within one too.
    for file in files * 2:
        texts = file.read_text("utf-8").splitlines()
        here.append(str(train_vocabulary(texts, size=5000, **UNCASED)))
    assert here[0].startswith("('[PAD]', '[UNK]', ")
    assert here[: len(files)] == here[len(files) :]
    for process in processes:
        assert process.communicate()[0].decode().splitlines() == here[: len(files)]
        assert process.returncode == 0


def test_the_order_of_the_texts_does_not_matter(
    sample: list[str], vocabulary: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary_training, "_BATCH_BYTES", 5000)
    again = train_vocabulary(iter(sample[::-1]), size=1000, **UNCASED)
    assert again == vocabulary


def test_special_tokens_come_first_then_characters(vocabulary: tuple[str, ...]) -> None:
    assert vocabulary[:5] == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert len(vocabulary) == len(set(vocabulary)) == 1000
    whole = [token for token in vocabulary[5:] if len(token) == 1]
    inner = [token for token in vocabulary if re.fullmatch("##.", token)]
    assert vocabulary[5 : 5 + len(whole)] == tuple(sorted(whole))
    assert vocabulary[5 + len(whole) :][: len(inner)] == tuple(sorted(inner))
    assert set("etaoin") <= set(whole) and "##e" in inner


def test_texts_are_looked_up_whole(
    sample: list[str], vocabulary: tuple[str, ...]
) -> None:
    """No [UNK] but for rare characters; a learned word is one token."""
    characters = Counter("".join(sample).lower())
    rare = {c for c, number in characters.items() if number < 2}
    reference = reference_tokenizer(vocabulary, **UNCASED)
    num_whole = 0
    for text in sample:
        for word in reference.split_words(text.encode()):
            pieces = reference.split_pieces(word)
            assert pieces != ["[UNK]"] or rare & set(word), word
            if word in vocabulary:
                assert pieces == [word]
                num_whole += 1
    assert num_whole > 10_000


def test_three_tokenizers_agree_on_the_vocabulary(
    sample: list[str], vocabulary: tuple[str, ...]
) -> None:
    ids = {token: number for number, token in enumerate(vocabulary)}
    hugging_face = Tokenizer(WordPiece(ids, unk_token="[UNK]"))
    hugging_face.normalizer = BertNormalizer(lowercase=True, strip_accents=True)
    hugging_face.pre_tokenizer = BertPreTokenizer()
    reference = reference_tokenizer(vocabulary, **UNCASED)
    own = WordPieceTokenizer(vocabulary, **UNCASED).tokenize(tf.constant(sample))
    for text, row in zip(sample, own.to_list(), strict=True):
        assert row == reference.tokenize(text.encode())
        assert row == hugging_face.encode(text).ids


def test_without_minimum_no_training_text_is_unknown(sample: list[str]) -> None:
    texts = [*sample, "Ça coûte 5 € — naïve Ĳsberg", *CHINESE]
    for case in (UNCASED, CASED):
        learned = train_vocabulary(texts, size=3000, min_frequency=1, **case)
        for text in texts:
            assert "[UNK]" not in tokenize(text, learned, **case)


def test_ideographs_are_tokens() -> None:
    learned = train_vocabulary(CHINESE, size=100, **UNCASED)
    for character in "北京中国的首都":
        assert character in learned
    assert not [token for token in learned if re.search("[一-鿿].|.[一-鿿]", token)]
    assert tokenize(CHINESE[0], learned, **UNCASED) == list(CHINESE[0])
    # Once each, of the last text: left out.
    assert "shanghai" not in learned and "上" not in learned


def test_case_and_accents() -> None:
    texts = ["Café café CAFÉ Café"] * 3
    words = {
        "uncased": {"cafe"},
        "accents": {"café"},
        "cased": {"Café", "café", "CAFÉ"},
    }
    cases = {
        "uncased": UNCASED,
        "accents": {"lowercase": True, "strip_accents": False},
        "cased": CASED,
    }
    for name, case in cases.items():
        learned = train_vocabulary(texts, size=100, **case)
        found = {token for token in learned if token.lower() in ("cafe", "café")}
        assert found == words[name]


def test_words_are_counted_as_the_tokenizer_splits_them() -> None:
    texts = ["Don't [MASK] [UNK]!", "a" * 101 + " don", "e\u200b\x00x\ud800y \u2028é"]
    counts = count_words(texts, **UNCASED)
    assert counts == {
        **{"don": 2, "'": 1, "t": 1, "[": 2, "]": 2, "mask": 1, "unk": 1, "!": 1},
        **{"exy": 1, "e": 1},
    }


def test_rare_characters_are_left_out() -> None:
    texts = ["banana bananaq", "na z"]
    learned = train_vocabulary(texts, size=100, **UNCASED)
    assert "banana" not in learned  # once with a character that is left out
    assert "q" not in learned and "##q" not in learned and "z" not in learned
    assert {"b", "a", "n"} < set(learned)
    assert "z" in train_vocabulary(texts, size=100, min_frequency=1, **UNCASED)


def test_a_size_below_the_alphabet_names_the_least() -> None:
    texts = ["abc cab bca"] * 2
    with pytest.raises(ConfigError, match=r"at least 11 tokens, received a size of 10"):
        train_vocabulary(texts, size=10, **UNCASED)
    assert train_vocabulary(texts, size=11, **UNCASED)[5:] == (
        *("a", "b", "c"),
        *("##a", "##b", "##c"),
    )


@pytest.mark.parametrize(
    "texts", [[], [""], [" \n", "\t"], ["\x00\u200b"], ["x" * 101]]
)
def test_texts_without_a_word(texts: list[str]) -> None:
    with pytest.raises(DataError, match="the texts hold none"):
        train_vocabulary(texts, size=100, **UNCASED)


def test_one_word() -> None:
    assert train_vocabulary(["hello"], size=100, min_frequency=1, **UNCASED)[-1] == (
        "hello"
    )
    with pytest.raises(DataError, match=r"each of the 1 words has .* frequency of 1"):
        train_vocabulary(["hello"], size=100, **UNCASED)


def test_no_token_is_longer_than_the_tokenizer_takes() -> None:
    thai = "".join(chr(0x0E01 + number % 46) for number in range(90))  # 270 bytes
    learned = train_vocabulary([f"{thai} กขค"] * 5, size=1000, **UNCASED)
    assert "กขค" in learned
    WordPieceTokenizer(learned, **UNCASED)
    only = train_vocabulary([thai] * 5, size=1000, **UNCASED)
    assert max(map(len, only[5:])) == 3  # characters, with ## or without


def test_counts_beyond_32_bits_are_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a character occurs 200 times and 50 are allowed, a quarter counts."""
    monkeypatch.setattr(vocabulary_training, "_MAX_COUNT", 50)
    words = {"the": 200, "ox": 90, "yx": 13, "zw": 3}
    quarter = Counter({"the": 50, "ox": 22, "yx": 3})
    learned = learn_pieces(words, size=100, min_frequency=9)
    assert list(learned) == learn_slowly(quarter, size=100, min_frequency=3)
    assert "yx" in learned

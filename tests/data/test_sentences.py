# ruff: noqa: RUF001 - the punctuation of Chinese looks like that of English

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbert.data.sentences import MAX_SENTENCE_CHARACTERS, split_sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("A line\nand one\r\nmore\n\n", ["A line", "and one", "more"]),
        ("Wait... what?! Yes.", ["Wait...", "what?!", "Yes."]),
        ('He said "Go." (Twice.) Then', ['He said "Go."', "(Twice.)", "Then"]),
        ("It costs 3.50 at a.com, v1.2", ["It costs 3.50 at a.com, v1.2"]),
        ("Mr. Smith, e.g. J. Doe. He", ["Mr. Smith, e.g. J. Doe.", "He"]),
        ("Good.<br /><br />Bad", ["Good.", "<br /><br />Bad"]),
        (". . .", [".", ".", "."]),
        (" \n\t\n ", []),
        ("", []),
    ],
)
def test_english(text, expected):
    assert split_sentences(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "这部电影很好看。我很喜欢！你呢？他说：“走吧。”然后走了",
            ["这部电影很好看。", "我很喜欢！", "你呢？", "他说：“走吧。”", "然后走了"],
        ),
        ("他来了；我走了……天黑了", ["他来了；", "我走了……", "天黑了"]),
        ("「行こう。」と言った。終わり", ["「行こう。」", "と言った。", "終わり"]),
        ("真的吗?真的!好3.5分", ["真的吗?", "真的!", "好3.5分"]),
    ],
)
def test_chinese_and_japanese(text, expected):
    assert split_sentences(text) == expected


def test_a_long_sentence_is_cut_at_a_space():
    words = ["word" + "s" * (n % 7) for n in range(3000)]
    text = " ".join(words)
    parts = split_sentences(text)
    assert len(parts) > 5
    assert all(1900 < len(part) <= MAX_SENTENCE_CHARACTERS for part in parts[:-1])
    assert " ".join(parts).split() == words
    parts = split_sentences("汉" * 4500)
    assert [len(part) for part in parts] == [2000, 2000, 500]


@pytest.mark.parametrize("text", ["." * 10**6 + "x", "a." * 10**6, "!)" * 10**6])
def test_takes_no_longer_for_a_million_marks(text):
    """With a pattern that steps back, this would not come to an end."""
    assert "".join(split_sentences(text)) == text


@given(
    st.text(alphabet="aB中。！…”.!?\"') \n\r\t<br\u3000\u2028\u0301é", max_size=60)
    | st.text(max_size=60)
)
def test_only_whitespace_is_lost(text):
    sentences = split_sentences(text)
    assert all(s and s == s.strip() for s in sentences)
    without_space = re.compile(r"\s+")
    assert without_space.sub("", "".join(sentences)) == without_space.sub("", text)
    # Each is where the one before ends.
    assert [s for one in sentences for s in split_sentences(one)] == sentences


def test_real_reviews(shared_dir):
    from kbert.data.sources import open_source

    source = open_source(
        "tfds:imdb_reviews",
        split="unsupervised[:2%]",
        data_dir=str(shared_dir / "data" / "tfds"),
        labelled=False,
    )
    texts = [text for chunk in source.chunks() for text in chunk.texts]
    sentences = [sentence for text in texts for sentence in split_sentences(text)]
    # The reviews have 1,330 characters on average, an English sentence about 100.
    assert 10 < len(sentences) / len(texts) < 16
    ends = sum(s.rstrip("\"')")[-1] in ".!?" for s in sentences)
    assert ends / len(sentences) > 0.9

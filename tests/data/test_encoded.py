"""Reading and encoding a source: the right ids, counts and labels, in order."""

import errno
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import tensorflow as tf

from kbert.data.encoded import Encoder, encode_source, encode_texts
from kbert.data.sources import Chunk, Columns
from kbert.errors import DataError
from kbert.tokenization import WordPieceTokenizer
from tests.tiny import VOCABULARY

CLS, SEP = VOCABULARY.index("[CLS]"), VOCABULARY.index("[SEP]")


LONG = "the food was not very good a film is"
SINGLE = Columns("text", None, "label")


@dataclass
class ListSource:
    """A source over a list of chunks; an exception among them is raised."""

    parts: list
    columns: Columns = SINGLE
    name: str = "list"
    label_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    num_examples: int | None = None

    def chunks(self, size: int = 1024) -> Iterator[Chunk]:
        for part in self.parts:
            if isinstance(part, Exception):
                raise part
            yield part


def encoder(max_length: int = 8, truncation: str = "head") -> Encoder:
    tokenizer = WordPieceTokenizer(VOCABULARY, lowercase=True, strip_accents=True)
    return Encoder(tokenizer, max_length, truncation)


def words_of(dataset, row: int) -> list[str]:
    start, length = dataset.starts[row], dataset.lengths[row]
    return [VOCABULARY[i] for i in dataset.token_ids[start : start + length]]


def test_ids_labels_and_counts():
    source = ListSource(
        [
            Chunk(
                ["Good film", "the food was not very good a film is"], None, ["p", "n"]
            ),
            Chunk(["", "bad  "], None, ["n", "p"]),
        ]
    )
    dataset = encode_source(source, encoder())
    assert words_of(dataset, 0) == ["[CLS]", "good", "film", "[SEP]"]
    assert words_of(dataset, 1) == [
        "[CLS]", "the", "food", "was", "not", "very", "good", "[SEP]"
    ]  # fmt: skip
    assert words_of(dataset, 2) == ["[CLS]", "[SEP]"]
    assert words_of(dataset, 3) == ["[CLS]", "bad", "[SEP]"]
    assert [dataset.label_names[i] for i in dataset.label_ids] == ["p", "n", "n", "p"]
    report = dataset.report
    assert report.num_examples == 4
    assert report.num_empty == 1
    assert (report.num_cut, report.num_tokens_lost) == (1, 3)
    assert report.num_tokens == dataset.lengths.sum() == 4 + 8 + 2 + 3
    assert "25.0% of the texts cut, 15.0% of the tokens lost" in report.summary()
    assert "1 empty text" in report.summary()


def test_order_is_kept_over_many_chunks():
    rng = np.random.default_rng(0)
    texts = [" ".join(["good"] * n) for n in rng.integers(0, 20, 3000)]
    parts = [Chunk(texts[i : i + 37], None, ["a"] * len(texts[i : i + 37]))
             for i in range(0, 3000, 37)]  # fmt: skip
    dataset = encode_source(ListSource(parts), encoder(max_length=30))
    expected = [len(text.split()) + 2 for text in texts]
    np.testing.assert_array_equal(dataset.lengths, expected)
    np.testing.assert_array_equal(dataset.token_ids[dataset.starts], CLS)
    ends = dataset.starts + dataset.lengths - 1
    np.testing.assert_array_equal(dataset.token_ids[ends], SEP)


def test_pairs_have_segments():
    columns = Columns("text", "text_pair", "label")
    source = ListSource([Chunk(["good film"], ["bad"], ["x"])], columns)
    dataset = encode_source(source, encoder())
    assert words_of(dataset, 0) == [
        "[CLS]", "good", "film", "[SEP]", "bad", "[SEP]"
    ]  # fmt: skip
    np.testing.assert_array_equal(dataset.segment_ids, [0, 0, 0, 0, 1, 1])


def test_an_error_of_the_source_comes_out_as_it_is():
    parts = [Chunk(["good"], None, ["x"]), DataError("list, line 7: too many fields")]
    with pytest.raises(DataError, match=r"^list, line 7: too many fields$"):
        encode_source(ListSource(parts), encoder())


def test_an_empty_source_is_an_error():
    with pytest.raises(DataError, match="list has no examples"):
        encode_source(ListSource([]), encoder())


def test_fingerprint_tells_texts_and_labels_apart():
    def fingerprint(*chunks: Chunk) -> str:
        return encode_source(ListSource(list(chunks)), encoder()).report.fingerprint

    one = fingerprint(Chunk(["good", "bad"], None, ["x", "y"]))
    assert one == fingerprint(Chunk(["good", "bad"], None, ["x", "y"]))
    assert one != fingerprint(Chunk(["good", "bad"], None, ["y", "x"]))
    assert one != fingerprint(Chunk(["goodb", "ad"], None, ["x", "y"]))


def test_texts_in_memory_agree_with_the_pipeline_and_a_compiled_graph():
    texts = ["Good film", "", "the food was not very good a film is", "ÉTÉ bad!"]
    source = ListSource([Chunk(texts, None, ["x"] * 4)])
    streamed = encode_source(source, encoder())
    compiled = tf.function(
        encoder(), input_signature=[tf.TensorSpec([None], tf.string)]
    )
    for found in (encode_texts(encoder(), texts), encode_texts(compiled, texts)):
        np.testing.assert_array_equal(found.token_ids, streamed.token_ids)
        np.testing.assert_array_equal(found.lengths, streamed.lengths)
        np.testing.assert_array_equal(found.starts, streamed.starts)


def test_selecting_examples():
    source = ListSource([Chunk(["good", "bad film", "a"], None, ["x", "y", "x"])])
    chosen = encode_source(source, encoder()).select(np.array([2, 1]), "two")
    assert len(chosen) == 2
    assert words_of(chosen, 0) == ["[CLS]", "a", "[SEP]"]
    assert words_of(chosen, 1) == ["[CLS]", "bad", "film", "[SEP]"]
    assert [chosen.label_names[i] for i in chosen.label_ids] == ["x", "y"]


def test_a_full_disk_for_temporary_files_is_named(monkeypatch):
    monkeypatch.setattr(
        "kbert.data.encoded.temporary_file", lambda: open("/dev/full", "w+b")
    )
    source = ListSource([Chunk(["good"], None, ["x"])])
    with pytest.raises(OSError, match="TMPDIR") as caught:
        encode_source(source, encoder())
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == tempfile.gettempdir()


@pytest.mark.parametrize("text", ["good\ud800", "\udcff good", "\ud800\udcffgood"])
def test_lone_surrogates_are_no_tokens(text):
    assert words_of(encode_texts(encoder(), [text]), 0) == ["[CLS]", "good", "[SEP]"]


def test_bytes_of_a_command_line_are_read_as_they_were():
    # A character whose bytes were taken apart is whole again.
    text = "good" + "。".encode().decode("ascii", "surrogateescape")
    expected = encode_texts(encoder(), ["good。"]).token_ids
    np.testing.assert_array_equal(encode_texts(encoder(), [text]).token_ids, expected)

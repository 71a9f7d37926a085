"""Windows: which documents they hold, and their tokens."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbert.data.pieces import Piece
from kbert.data.windows import (
    FilePiece,
    Start,
    Window,
    WindowTokenizer,
    read_pieces_of,
    windows,
)
from kbert.errors import DataError
from tests.data.pretraining_texts import (
    FakeCorpus,
    FakeFile,
    random_corpus,
    tiny_tokenizer,
)

CORPUS = FakeCorpus(
    (
        FakeFile("a.txt", [["one", "two"], ["three"]]),
        FakeFile("b.txt", [["four"], ["five"], ["six"]]),
    )
)


def pieces_of(documents: list[list[str]]) -> list[FilePiece]:
    return [
        FilePiece(piece, 0, "a.txt", number)
        for number, piece in enumerate(
            Piece(text, document, 10 * document + place)
            for document, texts in enumerate(documents, start=1)
            for place, text in enumerate(texts)
        )
    ]


def windows_of(documents, num_bytes, need_two=False) -> list[list[list[str]]]:
    found = windows(pieces_of(documents), num_bytes, need_two_documents=need_two)
    return [list(window.documents.values()) for window in found]


def test_reads_the_documents_to_keep_in_the_order_of_the_files():
    def keep(file: int, document: int) -> bool:
        return (file, document) not in {(0, 1), (1, 0)}

    found = [
        (item.file_name, item.file_number, item.piece.document, item.piece.text)
        for item in read_pieces_of(CORPUS, keep, [1, 0])
    ]
    assert found == [
        ("b.txt", 1, 1, "five"),
        ("b.txt", 1, 2, "six"),
        ("a.txt", 0, 0, "one"),
        ("a.txt", 0, 0, "two"),
    ]


def test_documents_of_two_files_are_two_documents():
    everything = read_pieces_of(CORPUS, lambda *document: True)
    (window,) = windows(everything, need_two_documents=True)
    assert window.documents == {
        (0, 0): ["one", "two"],
        (0, 1): ["three"],
        (1, 0): ["four"],
        (1, 1): ["five"],
        (1, 2): ["six"],
    }
    assert window.num_bytes == len("onetwothreefourfivesix")


def test_window_is_full_when_it_has_the_bytes():
    documents = [["1234"], ["5678"], ["9"], ["abcdefghij"], ["k"]]
    assert windows_of(documents, 8) == [
        [["1234"], ["5678"]],
        [["9"], ["abcdefghij"]],
        [["k"]],
    ]
    found = list(windows(pieces_of(documents), 8, need_two_documents=False))
    assert [window.number for window in found] == [0, 1, 2]
    assert [window.num_bytes for window in found] == [8, 11, 1]


def test_bytes_are_those_of_utf8():
    (window,) = windows(pieces_of([["aé句"]]), need_two_documents=False)
    assert window.num_bytes == 1 + 2 + 3


def test_document_goes_on_in_the_next_window():
    documents = [["aaaa", "bbbb", "cccc"], ["d"]]
    assert windows_of(documents, 5) == [[["aaaa", "bbbb"]], [["cccc"], ["d"]]]


def test_window_is_not_full_with_one_document_where_two_are_needed():
    documents = [["aaaa", "bbbb", "cccc"], ["d"], ["eeeee"], ["f"]]
    assert windows_of(documents, 5, need_two=True) == [
        [["aaaa", "bbbb", "cccc"], ["d"]],
        [["eeeee"], ["f"]],
    ]


def test_last_window_with_one_document_joins_the_one_before():
    documents = [["aaaa"], ["bbbb"], ["cccc"], ["dddd", "eeee"]]
    assert windows_of(documents, 8, need_two=True) == [
        [["aaaa"], ["bbbb"]],
        [["cccc"], ["dddd", "eeee"]],
    ]
    assert windows_of([["aaaa"], ["bbbb"], ["c"]], 8, need_two=True) == [
        [["aaaa"], ["bbbb"], ["c"]]
    ]


def test_one_document_alone_is_one_window():
    assert windows_of([["aaaa", "bbbb"]], 8, need_two=True) == [[["aaaa", "bbbb"]]]
    assert windows_of([], 8, need_two=True) == []


def test_document_of_eight_windows_is_refused_where_two_are_needed():
    documents = [["a"], ["bbbbb"], ["0123456789"] * 9]
    with pytest.raises(DataError, match=r"a\.txt, line 38, is in a document of more"):
        windows_of(documents, 10, need_two=True)
    assert len(windows_of(documents, 10)) == 9


@settings(max_examples=80, deadline=None)
@given(
    sizes=st.lists(
        st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=20
    ),
    num_bytes=st.integers(5, 30),
    need_two=st.booleans(),
)
def test_every_piece_is_in_one_window_in_order(sizes, num_bytes, need_two):
    pieces = pieces_of([["x" * size for size in texts] for texts in sizes])
    found = list(windows(pieces, num_bytes, need_two_documents=need_two))
    in_order = [
        (key[1], text)
        for window in found
        for key, texts in window.documents.items()
        for text in texts
    ]
    assert in_order == [(item.piece.document, item.piece.text) for item in pieces]
    assert [window.number for window in found] == list(range(len(found)))
    if need_two and len(sizes) > 1:
        assert all(len(window.documents) > 1 for window in found)
    assert all(window.num_bytes >= num_bytes for window in found[:-1])


@settings(max_examples=80, deadline=None)
@given(
    files=st.lists(
        st.lists(
            st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=9
        ),
        min_size=1,
        max_size=3,
    ),
    order=st.randoms(use_true_random=False),
    num_bytes=st.integers(5, 30),
    need_two=st.booleans(),
)
def test_windows_from_any_on_are_the_same(files, order, num_bytes, need_two):
    corpus = FakeCorpus(
        tuple(
            FakeFile(f"{name}.txt", [["x" * size for size in sizes] for sizes in file])
            for name, file in enumerate(files)
        )
    )
    numbers = order.sample(range(len(files)), len(files))

    def keep(file: int, document: int) -> bool:
        return document % 4 != 2

    def windows_from(start: Start | None, first_number: int) -> list[Window]:
        pieces = read_pieces_of(corpus, keep, numbers, start)
        return list(
            windows(
                pieces,
                num_bytes,
                need_two_documents=need_two,
                first_number=first_number,
            )
        )

    found = windows_from(None, 0)
    for number, window in enumerate(found):
        assert windows_from(window.start, number) == found[number:]


def test_tokens_are_those_of_each_sentence(monkeypatch):
    monkeypatch.setattr("kbert.data.windows._SENTENCES_AT_ONCE", 7)
    tokenizer = tiny_tokenizer()
    (window,) = windows(
        read_pieces_of(random_corpus(1), lambda *document: True),
        need_two_documents=True,
    )
    documents = WindowTokenizer(tokenizer)(window)
    starts = [0, *documents.sentence_ends[:-1]]
    found = [
        documents.token_ids[start:end].tolist()
        for start, end in zip(starts, documents.sentence_ends, strict=True)
    ]
    texts = [" ".join(texts) for texts in window.documents.values()]
    # A full stop ends a sentence of these texts and is nowhere else.
    expected = [
        [tokenizer.vocabulary.index(word) for word in [*sentence.split(), "."]]
        for text in texts
        for sentence in text.split(".")
        if sentence
    ]
    assert found == expected
    num_sentences = [text.count(".") for text in texts]
    assert [*map(int, documents.document_ends)] == [
        sum(num_sentences[: number + 1]) for number in range(len(texts))
    ]


def test_texts_without_a_token_are_left_out():
    window = Window(
        0,
        {
            (0, 0): ["\u200b"],
            (0, 1): ["word1.", "\u200b\n", "word2"],
            (0, 2): ["\u200b"],
        },
    )
    documents = WindowTokenizer(tiny_tokenizer())(window)
    assert documents.sentence_ends.tolist() == [2, 3]
    assert documents.document_ends.tolist() == [2]
    assert len(WindowTokenizer(tiny_tokenizer())(Window(0))) == 0

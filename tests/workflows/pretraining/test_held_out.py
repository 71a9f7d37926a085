"""Which documents are held out of a corpus, and when there are too few."""

from collections import Counter
from itertools import pairwise

import pytest

from kbert.errors import DataError
from kbert.workflows.pretraining import held_out
from kbert.workflows.pretraining.held_out import HeldOut, hold_out
from tests.data.pretraining_texts import FakeCorpus, FakeFile, random_corpus


def corpus_of(*files: list[list[str]]) -> FakeCorpus:
    return FakeCorpus(tuple(FakeFile(f"{n}.txt", f) for n, f in enumerate(files)))


def short_documents(num_documents: int) -> list[list[str]]:
    return [[f"document {number}"] for number in range(num_documents)]


def test_about_the_share_from_every_file():
    corpus = corpus_of(*[short_documents(1000)] * 3)
    held = hold_out(corpus, share=0.1, seed=0, least=2)
    by_file = [sum(key[0] == number for key in held.texts) for number in range(3)]
    assert all(60 < count < 140 for count in by_file)
    for (file, document), texts in held.texts.items():
        assert texts == corpus.files[file].documents[document]
    # Two files with the same text give other documents.
    assert {d for f, d in held.texts if f == 0} != {d for f, d in held.texts if f == 1}


def test_what_is_held_out_is_not_kept_to_train_on():
    held = HeldOut({(1, 7): ["text"]})
    assert not held.keep(1, 7)
    assert held.keep(1, 6)
    assert held.keep(7, 1)


def test_the_seed_decides():
    corpus = random_corpus()
    one, again, other = (
        hold_out(corpus, share=0.2, seed=seed, least=2) for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other


def test_a_small_corpus_gives_the_least_number():
    corpus = corpus_of(short_documents(4))
    for seed in range(20):
        held = hold_out(corpus, share=0.01, seed=seed, least=2)
        assert len(held.texts) == 2
        half = hold_out(corpus, share=0.5, seed=seed, least=2)
        assert len(half.texts) == 2


def test_the_least_number_are_those_that_a_larger_share_would_have_drawn_first():
    corpus = corpus_of(short_documents(30))
    few = hold_out(corpus, share=1e-9, seed=3, least=5)
    many = hold_out(corpus, share=0.5, seed=3, least=1)
    assert few.texts.keys() <= many.texts.keys()


def test_pieces_of_a_document_stay_together():
    corpus = corpus_of([["one ", "and the same"], ["another"]])
    for seed in range(10):
        (texts,) = hold_out(corpus, share=0.01, seed=seed, least=1).texts.values()
        assert texts in corpus.files[0].documents


def test_reading_ends_when_enough_is_held_out(monkeypatch):
    monkeypatch.setattr(held_out, "MAX_DOCUMENTS", 10)
    corpus = corpus_of(short_documents(5000))
    held = hold_out(corpus, share=0.1, seed=0, least=2)
    assert len(held.texts) == 10
    assert corpus.files[0].num_read < 300


@pytest.mark.parametrize(("num_files", "num_touched"), [(3, 3), (100, 16)])
def test_of_a_large_corpus_files_from_all_over_it_give_some(
    monkeypatch, num_files, num_touched
):
    monkeypatch.setattr(held_out, "MAX_DOCUMENTS", 48)
    corpus = corpus_of(*[short_documents(1000)] * num_files)
    held = hold_out(corpus, share=0.1, seed=0, least=2)
    assert len(held.texts) == 48
    of_file = Counter(file for file, _ in held.texts)
    read = [number for number, file in enumerate(corpus.files) if file.num_read]
    assert len(read) == num_touched
    assert set(of_file) <= set(read)
    assert len(of_file) > 0.8 * num_touched
    # Nowhere a gap of more than two even steps.
    gaps = [b - a for a, b in pairwise([0, *read, num_files - 1])]
    assert max(gaps) <= 2 * num_files / num_touched


def test_where_a_file_ends_another_takes_its_place():
    corpus = corpus_of(*[short_documents(1 + number % 3) for number in range(100)])
    held = hold_out(corpus, share=0.999999, seed=0, least=1)
    assert len(held.texts) == sum(len(f.documents) for f in corpus.files) - 1
    assert list(held.texts) == sorted(held.texts)


def test_reading_ends_when_enough_characters_are_held_out(monkeypatch):
    monkeypatch.setattr(held_out, "MAX_CHARACTERS", 1000)
    corpus = corpus_of([["a" * 200] for _ in range(500)])
    held = hold_out(corpus, share=0.1, seed=0, least=2)
    assert len(held.texts) == 5


def test_of_an_endless_document_only_so_much_is_kept(monkeypatch):
    monkeypatch.setattr(held_out, "MAX_CHARACTERS", 1000)
    corpus = corpus_of([["a" * 300] * 50, ["b"]])
    (texts,) = hold_out(corpus, share=0.999999, seed=0, least=1).texts.values()
    assert texts == ["a" * 300] * 4


def test_enough_is_left_though_the_first_documents_are_all_drawn(monkeypatch):
    monkeypatch.setattr(held_out, "MAX_CHARACTERS", 1000)
    corpus = corpus_of([["a" * 5000]] * 6)
    for least in (1, 2):
        held = hold_out(corpus, share=0.999999, seed=0, least=least)
        assert len(held.texts) == least


def test_a_share_of_nearly_all_leaves_what_training_needs():
    corpus = corpus_of(short_documents(12))
    assert len(hold_out(corpus, share=0.999999, seed=0, least=2).texts) == 10


@pytest.mark.parametrize(
    ("num_documents", "least", "rule"),
    [
        (0, 2, "reviews has no documents"),
        (0, 1, "reviews has no documents"),
        (1, 1, "has 1 document, and one is trained on, another is held out"),
        (1, 2, "has 1 document, and next-sentence prediction needs two documents"),
        (3, 2, "has 3 documents, and next-sentence prediction needs two"),
    ],
)
def test_too_few_documents(num_documents, least, rule):
    corpus = corpus_of(short_documents(num_documents))
    with pytest.raises(DataError) as caught:
        hold_out(corpus, share=0.01, seed=0, least=least)
    message = str(caught.value)
    assert rule in message
    if num_documents:
        assert "--set data.document=line" in message
        assert "--set data.validation=FILE" in message
        assert ("next_sentence_weight=0" in message) == (least == 2)

"""Examples made of text: a function of (seed, epoch), all text in each epoch."""

import threading
from collections import Counter

import numpy as np
import pytest

from kbert.data.pieces import Place
from kbert.data.pretraining import (
    Bookmark,
    Purpose,
    TextExamples,
    random_generator,
    shuffled_blocks,
)
from kbert.data.pretraining_examples import build_examples
from kbert.data.windows import Start, WindowTokenizer
from kbert.errors import DataError
from tests.data.pretraining_texts import (
    FakeCorpus,
    FakeFile,
    numbered_documents,
    random_corpus,
    recipe,
    rows_of,
    tiny_tokenizer,
)

TOKENIZER = tiny_tokenizer()


def source_of(
    corpus: FakeCorpus,
    *,
    max_length: int = 24,
    next_sentence: bool = True,
    seed: int = 0,
    keep=lambda *document: True,
) -> TextExamples:
    return TextExamples(
        corpus,
        TOKENIZER,
        recipe(max_length, next_sentence=next_sentence, short_rate=0.1),
        seed=seed,
        keep=keep,
        window_bytes=1500,
    )


def epoch_of(source: TextExamples, epoch: int = 0, first_block: int = 0):
    return [rows_of(block) for block in source.blocks(epoch, first_block)]


def flat(blocks):
    return [row for block in blocks for row in block]


def test_same_seed_and_epoch_give_the_same_blocks():
    corpus = random_corpus()
    blocks = epoch_of(source_of(corpus), 3)
    assert len(blocks) > 1
    assert blocks == epoch_of(source_of(corpus), 3)


@pytest.mark.parametrize("next_sentence", [True, False])
def test_other_epoch_or_seed_gives_another_order(next_sentence):
    corpus = random_corpus()
    orders = [
        flat(epoch_of(source_of(corpus, seed=seed, next_sentence=next_sentence), epoch))
        for seed, epoch in [(0, 0), (0, 1), (1, 0)]
    ]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_every_epoch_has_the_whole_text():
    corpus = random_corpus()
    counts = []
    for epoch in range(2):
        rows = flat(epoch_of(source_of(corpus, next_sentence=False), epoch))
        counts.append(Counter(t for tokens, _, _ in rows for t in tokens if t > 4))
    texts = [text for file in corpus.files for (text,) in file.documents]
    words = Counter(w for text in texts for w in text.replace(".", " . ").split())
    assert counts[0] == counts[1]
    assert counts[0] == {TOKENIZER.vocabulary.index(w): n for w, n in words.items()}


def test_a_block_shuffles_its_windows_together():
    words = [f"word{number}" for number in range(200)]
    documents = [[" ".join(words[n : n + 4])] for n in range(0, 200, 4)]
    corpus = FakeCorpus((FakeFile("a.txt", documents),))
    source = TextExamples(
        corpus,
        TOKENIZER,
        recipe(3, next_sentence=False),
        seed=0,
        keep=lambda *document: True,
        window_bytes=300,  # ten documents or so
    )
    (block,) = source.blocks(0)
    words_in_order = [tokens[1] for tokens, _, _ in rows_of(block) if tokens[1] > 4]
    assert sorted(words_in_order) == list(range(6, 206))
    first, last = words_in_order[:50], words_in_order[-50:]
    assert min(len({(n - 6) // 40 for n in part}) for part in (first, last)) == 5


@pytest.mark.parametrize("next_sentence", [True, False])
def test_an_epoch_can_begin_with_any_block(next_sentence):
    def source() -> TextExamples:
        return source_of(random_corpus(), next_sentence=next_sentence)

    whole = source()
    blocks = epoch_of(whole, 1)
    assert len(blocks) > 2
    for first_block in range(len(blocks) + 2):
        assert epoch_of(source(), 1, first_block) == blocks[first_block:]
        marked = source()
        if (bookmark := whole.bookmark(1, first_block)) is not None:
            marked.use_bookmark(1, bookmark)
        assert epoch_of(marked, 1, first_block) == blocks[first_block:]
        # In one process it is known.
        assert epoch_of(whole, 1, first_block) == blocks[first_block:]


def test_text_before_a_bookmark_is_not_read_nor_tokenized(monkeypatch):
    tokenized = []
    tokenize = WindowTokenizer.__call__

    def counted(self, window):
        tokenized.append(window.number)
        return tokenize(self, window)

    whole = source_of(random_corpus())
    blocks = epoch_of(whole, 1)
    bookmark = whole.bookmark(1, 2)
    assert bookmark is not None and bookmark.block == 2
    monkeypatch.setattr(WindowTokenizer, "__call__", counted)
    num_read = []
    for marked in (False, True):
        corpus = random_corpus()
        source = source_of(corpus)
        if marked:
            source.use_bookmark(1, bookmark)
        tokenized.clear()
        assert epoch_of(source, 1, 2) == blocks[2:]
        assert sorted(tokenized) == list(range(16, 16 + len(tokenized)))
        num_read.append([file.num_read for file in corpus.files])
    assert num_read[0] == [30, 30, 30]
    first = num_read[1][bookmark.start.file_number]
    assert first == 30 - bookmark.start.place.number < 30
    assert sorted(num_read[1]) == [0, first, 30] or sorted(num_read[1]) == [0, 0, first]


def test_a_bookmark_of_a_block_that_was_not_begun_is_of_one_before():
    corpus = random_corpus()
    source = source_of(corpus)
    assert source.bookmark(0, 1) is source.bookmark(3, 0) is None
    blocks = source.blocks(0)
    next(blocks), next(blocks)
    blocks.close()
    first, far = source.bookmark(0, 1), source.bookmark(0, 99)
    assert first is not None and far is not None
    assert (first.block, far.block) in {(1, 1), (1, 2)}
    assert source.bookmark(0, 0) is None
    assert source.bookmark(1, 1) is None
    # Those of an epoch that is long over are forgotten.
    for epoch in (1, 2):
        next(source.blocks(epoch))
        assert (source.bookmark(0, 1) is None) == (epoch == 2)


def test_a_bookmark_of_another_source_is_left_alone():
    blocks = epoch_of(source_of(random_corpus()), 1)
    source = source_of(random_corpus())
    source.use_bookmark(1, Bookmark(1, Start(99, Place(0, 0, 1, None))))
    assert epoch_of(source, 1, 1) == blocks[1:]


def test_documents_that_are_not_kept_are_not_there():
    corpus = FakeCorpus(
        (
            FakeFile("a.txt", [["word0. word1."], ["word2. word3."]]),
            FakeFile("b.txt", [["word4. word5."], ["word6. word7."]]),
        )
    )
    source = source_of(corpus, keep=lambda *document: document != (1, 0))
    found = {t for tokens, _, _ in flat(epoch_of(source)) for t in tokens if t > 5}
    names = {TOKENIZER.vocabulary[token_id] for token_id in found}
    assert names == {f"word{n}" for n in (0, 1, 2, 3, 6, 7)}


@pytest.mark.parametrize("documents", [[], [["\u200b"], ["\x01"]]])
def test_corpus_without_text_is_refused(documents):
    corpus = FakeCorpus((FakeFile("a.txt", documents),))
    with pytest.raises(DataError, match="reviews has no text to make examples of"):
        list(source_of(corpus).blocks(0))


def test_corpus_of_one_document_is_refused_for_pairs():
    corpus = FakeCorpus((FakeFile("a.txt", [["word1. word2. word3."]]),))
    with pytest.raises(DataError, match="needs two documents"):
        list(source_of(corpus).blocks(0))
    assert len(flat(epoch_of(source_of(corpus, next_sentence=False)))) == 1


def test_error_of_a_file_is_raised():
    class Broken(FakeFile):
        def pieces(self, start=None):
            yield from super().pieces(start)
            raise DataError("a.txt, line 7: invalid UTF-8")

    documents = [["word1. word2."]] * 3
    with pytest.raises(DataError, match="line 7: invalid UTF-8"):
        list(source_of(FakeCorpus((Broken("a.txt", documents),))).blocks(0))


def test_closing_ends_the_threads_and_the_reading():
    corpus = random_corpus(num_files=1, num_documents=400)
    blocks = source_of(corpus).blocks(0)
    next(blocks)
    blocks.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("kbert-")]
    assert corpus.files[0].num_read < 400


def test_blocks_are_permutations_of_eight_parts():
    _, flat_documents = numbered_documents([[3, 4]] * 200)
    examples = build_examples(
        flat_documents, recipe(6, next_sentence=False), random_generator(Purpose.ORDER)
    )
    rows = rows_of(examples)
    parts = [examples.select(np.arange(n, n + 10)) for n in range(0, 170, 10)]
    blocks = [rows_of(block) for block in shuffled_blocks(parts, 0, 0)]
    assert [len(block) for block in blocks] == [80, 80, 10]
    assert blocks[0] != rows[:80]
    assert sorted(blocks[0]) == sorted(rows[:80])
    assert sorted(blocks[2]) == sorted(rows[160:170])
    # What comes later does not need what came before.
    later = [rows_of(block) for block in shuffled_blocks(parts[8:], 0, 0, 1)]
    assert later == blocks[1:]


def test_random_numbers_of_two_purposes_differ():
    keys = [
        (purpose, *numbers)
        for purpose in Purpose
        for numbers in [(0,), (0, 1), (1, 0), (1, 0, 1), (1, 1)]
    ]
    drawn = {random_generator(*key).integers(2**62) for key in keys}
    assert len(drawn) == len(keys)

"""Pairs and packed runs, against BERT's procedure written out token by token."""

import random
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kbert.data.pretraining_examples import Examples, build_examples
from kbert.data.tokenized_documents import TokenizedDocuments
from kbert.errors import ConfigError, DataError
from tests.data.pretraining_texts import (
    CLS_ID,
    FIRST_TOKEN,
    SEP_ID,
    numbered_documents,
    recipe,
    rows_of,
)

CORPORA = st.lists(
    st.lists(st.integers(1, 12), min_size=1, max_size=8), min_size=2, max_size=8
)


def split_pair(row: tuple[list[int], int, int]) -> tuple[list[int], list[int], int]:
    """The two segments and the label of an example; checks the special tokens."""
    tokens, first_length, label = row
    assert tokens[0] == CLS_ID
    assert tokens[first_length - 1] == tokens[-1] == SEP_ID
    first, second = tokens[1 : first_length - 1], tokens[first_length:-1]
    assert min([*first, *second], default=0) >= FIRST_TOKEN
    return first, second, label


def reference_shortening(first: int, second: int, most: int) -> tuple[int, int]:
    """The lengths that are left, a token at a time, as the original BERT says."""
    while first + second > most:
        if first > second:
            first -= 1
        else:
            second -= 1
    return first, second


def reference_pairs(documents, room: int, short_rate: float, rng: random.Random):
    """Lengths of the segments and the label of each pair, in BERT's own steps."""
    pairs = []
    for number, document in enumerate(documents):
        target = rng.randint(2, room) if rng.random() < short_rate else room
        waiting = list(document)
        while waiting:
            run = []
            while waiting and sum(map(len, run)) < target:
                run.append(waiting.pop(0))
            num_first = rng.randint(1, len(run) - 1) if len(run) > 1 else 1
            first, rest = run[:num_first], run[num_first:]
            label = int(not rest or rng.random() < 0.5)
            if label:
                waiting = rest + waiting
                others = [d for i, d in enumerate(documents) if i != number]
                other = rng.choice(others)
                rest = []
                for sentence in other[rng.randrange(len(other)) :]:
                    rest.append(sentence)
                    if sum(map(len, rest)) >= target - sum(map(len, first)):
                        break
            lengths = [sum(map(len, first)), sum(map(len, rest))]
            pairs.append((*reference_shortening(*lengths, room), label))
    return pairs


@settings(max_examples=80, deadline=None)
@given(
    corpus=CORPORA,
    max_length=st.integers(5, 40),
    short_rate=st.sampled_from([0.0, 0.1, 1.0]),
    seed=st.integers(0, 9),
)
def test_pairs_are_runs_of_text_within_the_length(corpus, max_length, short_rate, seed):
    documents, flat = numbered_documents(corpus)
    document_of = {t: n for n, d in enumerate(documents) for s in d for t in s}
    examples = build_examples(
        flat,
        recipe(max_length, short_rate=short_rate),
        np.random.default_rng(seed),
    )
    assert examples.token_ids.dtype == np.int32
    assert examples.lengths.sum() == len(examples.token_ids)
    begun = set()
    for row in rows_of(examples):
        first, second, label = split_pair(row)
        assert first and second
        assert len(row[0]) <= max_length
        for segment in (first, second):
            assert segment == list(range(segment[0], segment[0] + len(segment)))
            assert len({document_of[token] for token in segment}) == 1
        here, there = document_of[first[0]], document_of[second[0]]
        assert (here != there) == bool(label)
        if not label:
            assert second[0] > first[-1]
        begun.add(here)
    assert begun == set(range(len(documents)))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=2, max_size=6),
    max_length=st.integers(5, 30),
    seed=st.integers(0, 9),
)
def test_sentences_that_gave_way_begin_the_next_pair(sizes, max_length, seed):
    # Sentences of one token never need shortening, so each pair shows its run whole.
    documents, flat = numbered_documents([[1] * size for size in sizes])
    examples = build_examples(flat, recipe(max_length), np.random.default_rng(seed))
    rows = iter(rows_of(examples))
    for document in documents:
        expected, stop = document[0][0], document[-1][0] + 1
        while expected < stop:
            first, second, label = split_pair(next(rows))
            assert first[0] == expected
            rest = stop - expected
            if not label:
                assert first + second == list(
                    range(expected, expected + min(rest, max_length - 3))
                )
            expected = first[-1] + 1 if label else second[-1] + 1
        assert expected == stop
    assert next(rows, None) is None


@pytest.mark.parametrize("max_length", [5, 6, 12, 13])
def test_longer_segment_is_shortened_first(max_length):
    for first in range(1, 15):
        for second in range(1, 15):
            _, flat = numbered_documents([[first], [second]])
            examples = build_examples(
                flat, recipe(max_length), np.random.default_rng(1)
            )
            pairs = [split_pair(row) for row in rows_of(examples)]
            # A document of one sentence can only be followed by the other one.
            assert [label for *_, label in pairs] == [1, 1]
            lengths = [(len(one), len(other)) for one, other, _ in pairs]
            room = max_length - 3
            assert lengths == [
                reference_shortening(first, second, room),
                reference_shortening(second, first, room),
            ]


def test_tokens_are_taken_off_at_front_and_back_alike():
    _, flat = numbered_documents([[1000]] * 100)
    examples = build_examples(flat, recipe(103), np.random.default_rng(0))
    # 950 of 1000 tokens go, each at the front with probability 1/2.
    fronts = [
        (segment[0] - FIRST_TOKEN) % 1000
        for row in rows_of(examples)
        for segment in split_pair(row)[:2]
    ]
    assert len(fronts) == 200
    deviation = np.sqrt(950 / 4)
    assert abs(np.mean(fronts) - 475) < 5 * deviation / np.sqrt(200)
    assert np.std(fronts) == pytest.approx(deviation, rel=0.25)


def test_half_of_the_pairs_come_from_another_document():
    _, flat = numbered_documents([[1] * 400] * 100)
    examples = build_examples(flat, recipe(23), np.random.default_rng(0))
    # A document's last sentence alone has no sentence after it to choose.
    last = [FIRST_TOKEN - 1 + 400 * number for number in range(1, 101)]
    labels = [
        label
        for first, _, label in map(split_pair, rows_of(examples))
        if first[0] not in last
    ]
    deviation = np.sqrt(len(labels) / 4)
    assert len(labels) > 2000
    assert abs(sum(labels) - len(labels) / 2) < 5 * deviation


def test_other_document_and_its_start_are_uniform():
    _, flat = numbered_documents([[1] * 10] * 11)
    rng = np.random.default_rng(0)
    seen: dict[int, Counter] = defaultdict(Counter)
    starts: Counter = Counter()
    for _ in range(400):
        for row in rows_of(build_examples(flat, recipe(5), rng)):
            first, second, label = split_pair(row)
            if label:
                document, place = divmod(second[0] - FIRST_TOKEN, 10)
                seen[(first[0] - FIRST_TOKEN) // 10][document] += 1
                starts[place] += 1
    for number, documents in seen.items():
        assert documents.keys() == set(range(11)) - {number}
        expected = documents.total() / 10
        assert all(
            abs(n - expected) < 6 * np.sqrt(expected) for n in documents.values()
        )
    expected = starts.total() / 10
    assert all(abs(starts[i] - expected) < 6 * np.sqrt(expected) for i in range(10))


def test_share_of_short_documents():
    num_documents, room = 4000, 20
    _, flat = numbered_documents([[1] * room] * num_documents)
    examples = build_examples(
        flat, recipe(room + 3, short_rate=0.25), np.random.default_rng(0)
    )
    # A first pair of consecutive sentences is as long as its document aims at.
    targets = {}
    for first, second, label in map(split_pair, rows_of(examples)):
        document, place = divmod(first[0] - FIRST_TOKEN, room)
        if place == 0 and not label:
            targets[document] = len(first) + len(second)
    lengths = np.array(list(targets.values()))
    # Of the shorter lengths 2 to 20, the last is no shorter.
    rate = 0.25 * 18 / 19
    num_short = (lengths < room).sum()
    deviation = np.sqrt(len(lengths) * rate * (1 - rate))
    assert abs(num_short - len(lengths) * rate) < 5 * deviation
    assert set(lengths) == set(range(2, room + 1))


def test_pairs_are_distributed_as_in_bert():
    rng = np.random.default_rng(0)
    lengths = [rng.integers(1, 25, rng.integers(1, 14)).tolist() for _ in range(40)]
    documents, flat = numbered_documents(lengths)
    ours, theirs = [], []
    for seed in range(60):
        examples = build_examples(
            flat, recipe(67, short_rate=0.1), np.random.default_rng(seed)
        )
        pairs = [split_pair(row) for row in rows_of(examples)]
        ours.append(
            [(len(first), len(second), label) for first, second, label in pairs]
        )
        theirs.append(reference_pairs(documents, 64, 0.1, random.Random(seed)))
    statistics = {
        "pairs": len,
        "first": lambda pairs: np.mean([first for first, _, _ in pairs]),
        "second": lambda pairs: np.mean([second for _, second, _ in pairs]),
        "full": lambda pairs: np.mean([a + b == 64 for a, b, _ in pairs]),
        "label": lambda pairs: np.mean([label for *_, label in pairs]),
        "long next": lambda pairs: np.mean([b > 32 and not y for _, b, y in pairs]),
    }
    for name, statistic in statistics.items():
        one, other = ([statistic(p) for p in side] for side in (ours, theirs))
        error = np.sqrt((np.var(one) + np.var(other)) / 60)
        assert abs(np.mean(one) - np.mean(other)) < 4.5 * error, name


@settings(max_examples=80, deadline=None)
@given(corpus=CORPORA, max_length=st.integers(3, 40))
def test_packed_examples_are_the_corpus_in_order(corpus, max_length):
    documents, flat = numbered_documents(corpus)
    examples = build_examples(
        flat, recipe(max_length, next_sentence=False), np.random.default_rng(0)
    )
    text = []
    for number, (tokens, first_length, label) in enumerate(rows_of(examples), start=1):
        assert (tokens[0], tokens[-1]) == (CLS_ID, SEP_ID)
        assert (first_length, label) == (len(tokens), 0)
        assert len(tokens) == max_length or number == len(examples)
        text += tokens[1:-1]
    expected = []
    for document in documents:
        expected += [token for sentence in document for token in sentence]
        expected.append(SEP_ID)
    assert text == expected[:-1]


@pytest.mark.parametrize("next_sentence", [True, False])
def test_same_random_numbers_give_the_same_examples(next_sentence):
    _, flat = numbered_documents([[3, 4, 5] * 10] * 20)
    one, again, other = (
        rows_of(
            build_examples(
                flat,
                recipe(20, next_sentence=next_sentence, short_rate=0.1),
                np.random.default_rng(seed),
            )
        )
        for seed in (1, 1, 2)
    )
    assert one == again
    # Packing draws nothing.
    assert (one == other) is not next_sentence


def test_one_document_cannot_be_paired():
    _, flat = numbered_documents([[3, 4]])
    with pytest.raises(DataError, match=r"needs two documents.*received one.*blank"):
        build_examples(flat, recipe(20), np.random.default_rng(0))
    packed = build_examples(
        flat, recipe(20, next_sentence=False), np.random.default_rng(0)
    )
    assert len(packed) == 1


@pytest.mark.parametrize("next_sentence", [True, False])
def test_no_document_gives_no_example(next_sentence):
    _, flat = numbered_documents([])
    examples = build_examples(
        flat, recipe(20, next_sentence=next_sentence), np.random.default_rng(0)
    )
    assert len(examples) == 0
    assert len(examples.select(np.array([], np.int64))) == 0


def test_empty_sentences_and_documents_are_left_out():
    flat = TokenizedDocuments.from_lengths(
        np.arange(10, 16, dtype=np.int32),
        np.array([0, 2, 0, 0, 3, 1, 0]),
        np.array([2, 0, 1, 3, 1]),
    )
    assert flat.sentence_ends.tolist() == [2, 5, 6]
    assert flat.document_ends.tolist() == [1, 3]
    assert len(flat) == 2


def test_select_copies_in_the_order_given():
    _, flat = numbered_documents([[3, 4, 5] * 4] * 5)
    examples = build_examples(flat, recipe(12), np.random.default_rng(0))
    rows = rows_of(examples)
    chosen = np.array([4, 0, 4, len(examples) - 1])
    selected = examples.select(chosen)
    assert rows_of(selected) == [rows[i] for i in chosen]
    selected.token_ids[:] = 0
    assert rows_of(examples) == rows
    both = Examples.concatenate([examples.select(chosen), examples])
    assert rows_of(both) == [*(rows[i] for i in chosen), *rows]
    assert len(Examples.concatenate([])) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_length": 4}, "at least 5, received 4"),
        ({"max_length": 2, "next_sentence": False}, "at least 3, received 2"),
        ({"max_length": 9, "short_rate": 1.5}, "from 0 to 1, received 1.5"),
        ({"max_length": 9, "short_rate": -0.1}, "from 0 to 1, received -0.1"),
    ],
)
def test_recipe_without_room_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        recipe(**changes)

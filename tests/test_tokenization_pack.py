"""Cutting and packing token ids, against a plain loop and written answers."""

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kbert.tokenization import Packed, WordPieceTokenizer, pack, pad
from kbert.vocabulary import SPECIAL_TOKENS

CLS_ID, SEP_ID = 101, 102


def cut(tokens: list[int], budget: int, truncation: str) -> list[int]:
    if len(tokens) <= budget:
        return tokens
    head = {"head": budget, "tail": 0, "head_tail": min(128, budget * 2 // 3)}
    first = head[truncation]
    return tokens[:first] + tokens[len(tokens) - (budget - first) :]


def pack_row(
    first: list[int], second: list[int] | None, max_length: int, truncation: str
) -> tuple[list[int], list[int]]:
    """One row; pairs are cut token by token, always from the longer."""
    if second is None:
        ids = [CLS_ID, *cut(first, max_length - 2, truncation), SEP_ID]
        return ids, [0] * len(ids)
    budgets = [len(first), len(second)]
    while sum(budgets) > max_length - 3:
        budgets[budgets[1] >= budgets[0]] -= 1
    first_ids = [CLS_ID, *cut(first, budgets[0], truncation), SEP_ID]
    second_ids = [*cut(second, budgets[1], truncation), SEP_ID]
    return first_ids + second_ids, [0] * len(first_ids) + [1] * len(second_ids)


def make_ragged(rows: list[list[int]]) -> tf.RaggedTensor:
    return tf.ragged.constant(rows, tf.int32, ragged_rank=1, row_splits_dtype=tf.int64)


token_row = st.integers(0, 400).map(lambda size: list(range(1000, 1000 + size)))
short_row = st.integers(0, 12).map(lambda size: list(range(1000, 1000 + size)))


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.tuples(token_row | short_row, token_row | short_row), max_size=5),
    st.booleans(),
    st.one_of(st.integers(4, 30), st.integers(100, 520)),
    st.sampled_from(["head", "tail", "head_tail"]),
)
def test_pack_equals_a_plain_loop(
    rows: list[tuple[list[int], list[int]]],
    pairs: bool,
    max_length: int,
    truncation: str,
) -> None:
    firsts = [first for first, _ in rows]
    seconds = [[1000 + token for token in second] for _, second in rows]
    packed = pack(
        make_ragged(firsts),
        make_ragged(seconds) if pairs else None,
        max_length=max_length,
        truncation=truncation,
        cls_id=CLS_ID,
        sep_id=SEP_ID,
    )
    expected = [
        pack_row(first, second if pairs else None, max_length, truncation)
        for first, second in zip(firsts, seconds, strict=True)
    ]
    assert packed.token_ids.to_list() == [ids for ids, _ in expected]
    assert packed.segment_ids.to_list() == [segments for _, segments in expected]
    assert packed.num_tokens.numpy().tolist() == [
        len(first) + 2 + pairs * (len(second) + 1)
        for first, second in zip(firsts, seconds, strict=True)
    ]
    assert {tensor.dtype for tensor in packed} == {tf.int32}


@pytest.mark.parametrize(
    ("truncation", "kept"),
    [
        ("head", [0, 1, 2, 3, 4, 5]),
        ("tail", [4, 5, 6, 7, 8, 9]),
        ("head_tail", [0, 1, 2, 3, 8, 9]),
    ],
)
def test_what_truncation_keeps(truncation: str, kept: list[int]) -> None:
    packed = pack(
        make_ragged([list(range(10))]),
        None,
        max_length=8,
        truncation=truncation,
        cls_id=CLS_ID,
        sep_id=SEP_ID,
    )
    assert packed.token_ids.to_list() == [[CLS_ID, *kept, SEP_ID]]
    assert packed.num_tokens.numpy().tolist() == [12]


def test_head_tail_keeps_128_tokens_of_the_head() -> None:
    packed = pack(
        make_ragged([list(range(1000))]),
        None,
        max_length=512,
        truncation="head_tail",
        cls_id=CLS_ID,
        sep_id=SEP_ID,
    )
    [ids] = packed.token_ids.to_list()
    assert ids[1:-1] == [*range(128), *range(1000 - 382, 1000)]


def test_pack_refuses_what_cannot_be() -> None:
    tokens = make_ragged([[1, 2]])
    ids = {"cls_id": CLS_ID, "sep_id": SEP_ID}
    with pytest.raises(ValueError, match="at least 3, received 2"):
        pack(tokens, None, max_length=2, truncation="head", **ids)
    with pytest.raises(ValueError, match="at least 4, received 3"):
        pack(tokens, tokens, max_length=3, truncation="head", **ids)
    with pytest.raises(ValueError, match="received 'middle'"):
        pack(tokens, None, max_length=9, truncation="middle", **ids)


def test_tokenize_and_pack_run_in_one_graph() -> None:
    tokenizer = WordPieceTokenizer(
        [*SPECIAL_TOKENS, "good", "bad", "film"], lowercase=True, strip_accents=True
    )

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)] * 2)
    def encode(texts: tf.Tensor, pairs: tf.Tensor) -> Packed:
        return pack(
            tokenizer.tokenize(texts),
            tokenizer.tokenize(pairs),
            max_length=8,
            truncation="head_tail",
            cls_id=tokenizer.cls_id,
            sep_id=tokenizer.sep_id,
        )

    packed = encode(tf.constant(["Good film", "bad"]), tf.constant(["bad", ""]))
    assert packed.token_ids.to_list() == [[2, 5, 7, 3, 6, 3], [2, 6, 3, 3]]
    assert packed.segment_ids.to_list() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1]]
    assert packed.num_tokens.numpy().tolist() == [6, 4]


@pytest.mark.parametrize(
    ("lengths", "max_length", "padded"),
    [
        ([3], 64, 16),
        ([16, 3], 64, 16),
        ([17, 2, 2], 64, 32),
        ([50], 50, 50),  # never beyond the maximum
        ([8, 2], 8, 8),
        ([], 64, 16),
    ],
)
def test_pad_fills_up_to_the_longest_rounded_up(
    lengths: list[int], max_length: int, padded: int
) -> None:
    rows = [list(range(100, 100 + length)) for length in lengths]
    segments = [[1] * length for length in lengths]
    packed = Packed(make_ragged(rows), make_ragged(segments), tf.constant(lengths))
    features = tf.function(pad)(packed, pad_id=7, max_length=max_length, multiple_of=16)
    expected = {
        "token_ids": [row + [7] * (padded - len(row)) for row in rows],
        "segment_ids": [row + [0] * (padded - len(row)) for row in segments],
        "padding_mask": [[1] * n + [0] * (padded - n) for n in lengths],
    }
    assert features.keys() == expected.keys()
    for name, values in expected.items():
        assert features[name].dtype == tf.int32
        assert features[name].numpy().tolist() == values, name
        assert features[name].numpy().shape == (len(lengths), padded)

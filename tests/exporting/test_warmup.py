"""Warm-up requests: their shapes, and that they are what a server replays."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from kbert.exporting import warmup
from kbert.tokenization import WordPieceTokenizer, pack
from kbert.vocabulary import SPECIAL_TOKENS


def test_batch_sizes_and_lengths():
    assert warmup.batch_sizes(1) == [1]
    assert warmup.batch_sizes(32) == [1, 2, 4, 8, 16, 32]
    assert warmup.batch_sizes(20) == [1, 2, 4, 8, 16, 20]
    assert warmup.lengths(64, 16) == [16, 32, 48, 64]
    assert warmup.lengths(50, 16) == [16, 32, 48, 50]
    assert warmup.lengths(8, 16) == [8]


def test_all_shapes_are_warmed_up_if_time_allows():
    shapes = warmup.plan([1, 2, 4], [16, 32], seconds_of_largest=0.1)
    assert sorted(shapes) == [(b, t) for b in (1, 2, 4) for t in (16, 32)]


def test_a_slow_model_is_warmed_up_with_fewer_shapes():
    sizes, lengths = [1, 2, 4, 8, 16, 32], [16, 128, 512]
    shapes = warmup.plan(sizes, lengths, seconds_of_largest=20.0)
    tokens = sum(size * length for size, length in shapes)
    assert tokens * 20.0 / (32 * 512) <= 30
    assert {size for size, _ in shapes} == set(sizes)
    assert {length for _, length in shapes} == set(lengths)
    assert (1, 512) in shapes
    # However slow, every length and every batch size is seen once.
    least = warmup.plan(sizes, lengths, seconds_of_largest=1e6)
    assert {size for size, _ in least} == set(sizes)
    assert {length for _, length in least} == set(lengths)


@pytest.mark.parametrize("letters", ["a", ""])
@pytest.mark.parametrize("inputs", [["text"], ["text", "text_pair"]])
def test_a_request_has_the_tokens_it_is_for(letters: str, inputs: list[str]):
    tokenizer = WordPieceTokenizer(
        [*SPECIAL_TOKENS, *letters], lowercase=True, strip_accents=True
    )
    shapes = [(1, 16), (3, 17), (2, 64)]
    found = []
    for signature, feeds in warmup.requests(shapes, inputs, signature="answer"):
        assert signature == "answer"
        tokens = [tokenizer.tokenize(tf.constant(feeds[name])) for name in inputs]
        packed = pack(
            tokens[0],
            tokens[1] if len(tokens) == 2 else None,
            max_length=64,
            truncation="head",
            cls_id=tokenizer.cls_id,
            sep_id=tokenizer.sep_id,
        )
        (length,) = set(packed.num_tokens.numpy())
        found.append((len(feeds["text"]), length))
    assert found == shapes


def test_records_are_those_of_tensorflow_serving(tmp_path: Path):
    file = tmp_path / "warmup"
    feeds = {"text": np.array([b"a a", b"a"], object)}
    assert warmup.write_warmup(file, "reviews", iter([("answer", feeds)] * 2)) == 2
    records = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    assert len(records) == 2
    log = prediction_log_pb2.PredictionLog.FromString(records[0])
    request = log.predict_log.request
    assert request.model_spec.name == "reviews"
    assert request.model_spec.signature_name == "answer"
    assert tf.make_ndarray(request.inputs["text"]).tolist() == [b"a a", b"a"]

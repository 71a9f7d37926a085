"""Outputs come in the data set's order, and a short batch is a small one."""

import keras
import numpy as np
import pytest

from kbert.data.batching import Batching
from kbert.tasks import TextClassification
from kbert.training.prediction import predict_outputs
from tests.tiny import build_model, random_dataset

TASK = TextClassification(labels=("no", "yes"))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = build_model(TASK)
    # Larger weights, so that texts differ in their outputs.
    model.set_weights([9 * weight for weight in model.get_weights()])
    return model


def one_by_one(model, dataset) -> np.ndarray:
    outputs = []
    for start, length in zip(dataset.starts, dataset.lengths, strict=True):
        token_ids = dataset.token_ids[None, start : start + length]
        features = {
            "token_ids": token_ids,
            "segment_ids": np.zeros_like(token_ids),
            "padding_mask": np.ones_like(token_ids),
        }
        outputs.append(np.asarray(model(features))[0])
    return np.stack(outputs)


@pytest.mark.parametrize("num_examples", [1, 37])
def test_order_and_values(model, num_examples):
    dataset = random_dataset(num_examples)
    done = []
    found = predict_outputs(
        model, dataset, Batching(32, 8), 0, on_batch=lambda *counts: done.append(counts)
    )
    expected = one_by_one(model, dataset)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if num_examples > 1:
        assert expected.std(axis=0).min() > 1e-3
    assert sum(examples for examples, _ in done) == num_examples
    assert sum(tokens for _, tokens in done) == dataset.lengths.sum()


class Shapes:
    """In place of a model: remembers the shapes it was fed."""

    def __init__(self) -> None:
        self.fed: list[tuple[int, ...]] = []

    def predict_on_batch(self, features) -> np.ndarray:
        self.fed.append(features["token_ids"].shape)
        return np.zeros((len(features["token_ids"]), 2))


@pytest.mark.parametrize(("num_examples", "rows"), [(1, 1), (3, 4), (5, 8), (100, 128)])
def test_few_texts_make_a_small_batch(num_examples, rows):
    dataset = random_dataset(num_examples).select(np.zeros(num_examples, int), "same")
    shapes = Shapes()
    predict_outputs(shapes, dataset, Batching(256, tokens_per_batch=8192), 0)
    width = 16 if dataset.lengths[0] <= 16 else 32
    assert shapes.fed == [(rows, width)]

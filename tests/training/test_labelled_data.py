"""Labelled examples as they are fed: each once an epoch, and from any step on."""

import numpy as np
import pytest

from kbert.data.batching import Batching
from kbert.training.labelled_data import LabelledData
from tests.tiny import random_dataset
from tests.training.resuming import check_every_start

BATCHINGS = {
    "rows": Batching(32, batch_size=8),
    "accumulated": Batching(32, batch_size=3, accumulation=4),
    "tokens": Batching(32, tokens_per_batch=100),
    "tokens accumulated": Batching(32, tokens_per_batch=64, accumulation=3),
}
NUM_EXAMPLES = 70


def data_of(batching: Batching, seed: int = 1) -> LabelledData:
    dataset = random_dataset(NUM_EXAMPLES)
    rng = np.random.default_rng(2)
    return LabelledData(
        dataset,
        targets=rng.integers(0, 9, NUM_EXAMPLES).astype(np.int32),
        weights=rng.random(NUM_EXAMPLES).astype(np.float32),
        batching=batching,
        pad_id=0,
        seed=seed,
    )


@pytest.fixture(params=BATCHINGS)
def batching(request) -> Batching:
    return BATCHINGS[request.param]


def test_after_any_step_it_goes_on_as_without_interruption(batching):
    num_steps = 2 * data_of(batching).steps_per_epoch + 3
    updates = check_every_start(lambda: data_of(batching), num_steps)
    assert updates[-1].position == {"step": num_steps}


def test_every_epoch_feeds_each_example_once_with_its_own_values(batching):
    data = data_of(batching)
    steps, dataset = data.steps_per_epoch, data.dataset
    updates = list(data.updates(3 * steps))
    orders = []
    for epoch in range(3):
        numbers: list[int] = []
        for update in updates[epoch * steps : (epoch + 1) * steps]:
            assert len(update.batches) == batching.accumulation
            for fed in update.batches:
                assert len(fed.example_ids) == fed.num_examples
                numbers += fed.example_ids.tolist()
                for row, number in enumerate(fed.example_ids):
                    start, length = dataset.starts[number], dataset.lengths[number]
                    np.testing.assert_array_equal(
                        fed.features["token_ids"][row, :length],
                        dataset.token_ids[start : start + length],
                    )
                    assert fed.targets[row] == data.targets[number]
        assert sorted(numbers) == list(range(NUM_EXAMPLES))
        orders.append(numbers)
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_the_epochs_before_are_not_gone_through(batching, monkeypatch):
    groups, batches = Batching.groups, Batching.batches
    epochs, fed = [], []

    def counted_groups(*arguments, epoch=0, **others):
        epochs.append(epoch)
        return groups(*arguments, epoch=epoch, **others)

    def counted_batches(*arguments):
        fed.append(arguments)
        return batches(*arguments)

    data = data_of(batching)
    steps = data.steps_per_epoch
    monkeypatch.setattr(Batching, "groups", counted_groups)
    monkeypatch.setattr(Batching, "batches", counted_batches)
    (update,) = data.updates(5 * steps - 1, {"step": 5 * steps - 2})
    assert update.position == {"step": 5 * steps - 1}
    assert (epochs, len(fed)) == ([4], 1)


def test_nothing_is_left_of_a_training_that_is_over(batching):
    data = data_of(batching)
    steps = data.steps_per_epoch
    assert list(data.updates(steps, {"step": steps})) == []
    assert list(data.updates(3, {"step": 7})) == []
    assert list(data.updates(0)) == []

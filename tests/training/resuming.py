"""What the tests ask of every kind of training data that goes on at a position."""

import json
from collections.abc import Callable, Sequence

import numpy as np

from kbert.training.feeding import Fed, TrainingData, Update


def check_every_start(make: Callable[[], TrainingData], num_steps: int) -> list[Update]:
    """Checks that after each update all go on as if there had been no interruption.

    Args:
        make: opens the data, as another process would.

    Returns:
        The updates without interruption.
    """
    whole = list(make().updates(num_steps))
    assert [update.position["step"] for update in whole] == [*range(1, num_steps + 1)]
    assert len({tokens_of(update) for update in whole}) == num_steps
    for step, update in enumerate(whole, start=1):
        start = json.loads(json.dumps(update.position))
        check_same(list(make().updates(num_steps, start)), whole[step:])
    return whole


def check_same(found: Sequence[Update], expected: Sequence[Update]) -> None:
    """Checks that updates are the same in all their arrays, and positions too."""
    for one, other in zip(found, expected, strict=True):
        assert without_bookmark(one) == without_bookmark(other)
        for batch, other_batch in zip(one.batches, other.batches, strict=True):
            ours, theirs = arrays_of(batch), arrays_of(other_batch)
            assert ours.keys() == theirs.keys()
            for name, array in ours.items():
                assert array.dtype == theirs[name].dtype
                np.testing.assert_array_equal(array, theirs[name], name)


def arrays_of(fed: Fed) -> dict[str, np.ndarray]:
    """All that a batch consists of, by name."""
    arrays = {"example_ids": fed.example_ids, **fed.features}
    arrays["counts"] = np.array([fed.num_examples, fed.num_tokens])
    for name, values in {"targets": fed.targets, "weights": fed.weights}.items():
        named = values if isinstance(values, dict) else {"": values}
        arrays |= {f"{name} {key}": array for key, array in named.items()}
    return arrays


def tokens_of(update: Update) -> bytes:
    """The tokens of all batches."""
    return b"".join(fed.features["token_ids"].tobytes() for fed in update.batches)


def without_bookmark(update: Update) -> dict[str, int]:
    """The position; how far ahead was read by chance decides the bookmark."""
    position = update.position
    return {name: position[name] for name in position if name != "bookmark"}

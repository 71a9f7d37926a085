"""Examples, a masking and a model that the tests of pretraining's training share."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from kbert.data.pretraining import ExampleSource
from kbert.data.pretraining_examples import Examples
from kbert.layers import MaskedLMMask
from kbert.models import BertForPretraining
from kbert.training.masked_data import Mask, MaskedData, Phase
from tests.tiny import VOCABULARY

MAX_LENGTH = 24
NUM_SLOTS = 4
SPECIAL = 5  # tokens, [PAD] the first and [MASK] the last


def random_examples(num_examples: int, seed: int = 0) -> Examples:
    """Pairs of 7 to 24 tokens of the tiny language."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(7, MAX_LENGTH + 1, num_examples)
    first_lengths = rng.integers(3, lengths - 2)
    rows = []
    for length, first_length in zip(lengths, first_lengths, strict=True):
        row = rng.integers(SPECIAL, len(VOCABULARY), length)
        row[0], row[first_length - 1], row[-1] = 2, 3, 3
        rows.append(row)
    return Examples(
        np.concatenate(rows).astype(np.int32),
        lengths,
        first_lengths,
        rng.integers(0, 2, num_examples).astype(np.int32),
    )


def numbered_examples(first: int, num_examples: int) -> Examples:
    """Examples of one token each that is the example's number."""
    ones = np.ones(num_examples, np.int64)
    numbers = np.arange(first, first + num_examples, dtype=np.int32)
    return Examples(numbers, ones, ones, np.zeros(num_examples, np.int32))


class Blocks(ExampleSource):
    """An `ExampleSource` of given blocks, the same in each epoch, or by epoch."""

    def __init__(self, *epochs: Sequence[Examples]) -> None:
        self.epochs = epochs
        self.num_open = 0

    def blocks(self, epoch: int, first_block: int = 0) -> Iterator[Examples]:
        self.num_open += 1
        try:
            yield from self.epochs[epoch % len(self.epochs)][first_block:]
        finally:
            self.num_open -= 1


def mask_layer(seed: int = 5, **arguments) -> MaskedLMMask:
    return MaskedLMMask(
        len(VOCABULARY),
        4,
        special_token_ids=range(SPECIAL),
        mask_selection_length=NUM_SLOTS,
        seed=seed,
        **arguments,
    )


class Unmasked:
    """A mask that hides nothing and remembers the draws."""

    def __init__(self) -> None:
        self.draws: list[int] = []

    def __call__(self, token_ids, draws):
        assert draws.dtype == np.uint32
        self.draws += draws.tolist()
        slots = np.zeros((len(token_ids), 1), np.int32)
        return {
            "token_ids": token_ids,
            "mask_positions": slots,
            "mask_ids": slots,
            "mask_weights": slots.astype(np.float32),
        }


def phase_of(
    source: ExampleSource,
    mask: Mask | None = None,
    *,
    length: int = MAX_LENGTH,
    num_rows: int = 4,
    num_steps: int = 10,
) -> Phase:
    return Phase(source, mask or Unmasked(), length, num_rows, num_steps)


def data_of(*phases: Phase, accumulation: int = 1, next_sentence=True) -> MaskedData:
    return MaskedData(
        phases, pad_id=0, next_sentence=next_sentence, accumulation=accumulation
    )


def tiny_bert(*, next_sentence: bool = True, seed: int = 3) -> BertForPretraining:
    """A BERT of one layer whose weights are all different, and large."""
    keras.utils.set_random_seed(seed)
    model = BertForPretraining(
        len(VOCABULARY),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        dropout=0.0,
        max_sequence_length=32,
        next_sentence=next_sentence,
    )
    rng = np.random.default_rng(seed)
    model.set_weights([w + rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    return model


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """`[...]` of logits `[..., V]`, in float64."""
    logits = np.asarray(logits, np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(-1))
    chosen = np.take_along_axis(shifted, np.asarray(targets)[..., None], -1)[..., 0]
    return log_sums - chosen

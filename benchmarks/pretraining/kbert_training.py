"""kbert's side of parity.py and step.py: the code that `kbert pretrain` trains with.

The model, the batches and what Keras compiles are made by kbert's own functions from
settings of `kbert pretrain`, so that what is compared is what trains.

Axes: B rows of a batch, T tokens, P prediction slots.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.pretraining.batches import VOCABULARY_SIZE, Batch, Shape
from kbert.data.pretraining import ExampleSource
from kbert.data.pretraining_examples import Examples
from kbert.models import BertForPretraining
from kbert.pretrain_settings import PretrainTrainSettings
from kbert.training.feeding import Fed
from kbert.training.masked_data import MaskedData, Phase
from kbert.workflows.pretraining.model import compile_pretraining

_MASKED = ("token_ids", "mask_positions", "mask_ids", "mask_weights")


class MaskedBatches(ExampleSource):
    """Batches that are masked already, as the source and the mask of a training.

    Args:
        batches: of equal shapes, as `make_batch` gives them.
    """

    def __init__(self, batches: Sequence[Batch]) -> None:
        self._batches = batches
        self._masked = {
            name: np.concatenate([batch[name] for batch in batches]) for name in _MASKED
        }

    def blocks(self, epoch: int, first_block: int = 0) -> Iterator[Examples]:
        """A block for each batch; see `ExampleSource`."""
        for batch in self._batches[first_block:]:
            is_token = batch["padding_mask"] == 1  # (B, T)
            lengths = is_token.sum(axis=1)
            yield Examples(
                batch["token_ids"][is_token],
                lengths,
                lengths - batch["segment_ids"].sum(axis=1),
                batch["next_sentence_labels"],
            )

    def mask(self, token_ids: np.ndarray, draws: np.ndarray) -> dict[str, np.ndarray]:
        """The masks of the examples `draws`, which are numbered as they are read."""
        return {name: array[draws] for name, array in self._masked.items()}


def feed(batches: Sequence[Batch]) -> list[Fed]:
    """The batches as a training feeds them, an update each."""
    source = MaskedBatches(batches)
    num_rows, max_length = batches[0]["token_ids"].shape
    phase = Phase(source, source.mask, max_length, num_rows, len(batches))
    data = MaskedData([phase], pad_id=0, next_sentence=True)
    return [fed for update in data.updates(len(batches)) for fed in update.batches]


def compiled_model(
    shape: Shape, train: PretrainTrainSettings, **arguments: Any
) -> BertForPretraining:
    """A new model of a shape, compiled to train by settings without `auto`."""
    model = BertForPretraining(
        VOCABULARY_SIZE,
        **shape._asdict(),
        dtype=train.precision,
        **arguments,
    )
    compile_pretraining(model, train)
    return model

"""Pretraining examples, masked and in batches, as they are fed to a training.

Axes: B rows of a batch, T tokens, P prediction slots.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops
from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from kbert.bounded import first_problem
from kbert.data.pretraining import Bookmark, ExampleSource
from kbert.data.pretraining_examples import Examples
from kbert.errors import RunError
from kbert.models import MASKED_LM, NEXT_SENTENCE
from kbert.training.feeding import Fed, Update

Mask = Callable[[np.ndarray, np.ndarray], dict[str, Any]]


@dataclass(frozen=True)
class Phase:
    """Some steps of a training with examples of one length.

    Attributes:
        source: the examples, without masks.
        mask: a `MaskedLMMask`, or a compiled function of it.
        max_length: T; every example is padded to it.
        num_rows: B.
        num_steps: updates.
    """

    source: ExampleSource
    mask: Mask
    max_length: int
    num_rows: int
    num_steps: int


@dataclass(frozen=True)
class MaskedData:
    """Batches of fixed shapes from text, with fresh masks every time.

    What is fed at a step is a function of the seeds of the sources and masks and of
    the step alone.

    Attributes:
        phases: one after the other.
        pad_id: the id of [PAD].
        next_sentence: whether the model is to tell the next sentence.
        accumulation: batches of one update.
    """

    phases: Sequence[Phase]
    pad_id: int
    next_sentence: bool
    accumulation: int = 1

    def only(self, phase: Phase) -> "MaskedData":
        """The same with one phase alone."""
        return replace(self, phases=[phase])

    def updates(
        self, num_steps: int, start: Mapping[str, Any] | None = None
    ) -> Iterator[Update]:
        """See `TrainingData`; ends with the last phase if that is earlier.

        A position is the step, and epoch, block and number in the block of the example
        of the current phase that comes next.
        """
        step, place, bookmark = (0, _Place(), None) if start is None else _parse(start)
        num_before = num_seen = 0  # updates and examples of the phases before
        for phase in self.phases:
            rows = phase.num_rows * self.accumulation
            end = num_before + phase.num_steps
            num_left = min(num_steps, end) - step
            if num_left > 0:
                if bookmark is not None:
                    phase.source.use_bookmark(place.epoch, bookmark)
                groups = _groups(phase.source, rows, place)
                for group, place in islice(groups, num_left):
                    first_draw = num_seen + (step - num_before) * rows
                    batches = self.feed(phase, group, first_draw=first_draw)
                    step += 1
                    # The last phase may get longer: it then goes on in the text.
                    if step == end and phase is not self.phases[-1]:
                        place = _Place()
                    yield Update(batches, _position(step, place, phase.source))
                groups.close()
                place, bookmark = _Place(), None
            num_before, num_seen = end, num_seen + phase.num_steps * rows

    def feed(self, phase: Phase, group: Examples, *, first_draw: int) -> list[Fed]:
        """The batches of one update.

        Args:
            group: as many examples as the update has.
            first_draw: the number of the first example among all that were fed: it
                decides the masks.
        """
        size = phase.num_rows
        numbers = np.arange(len(group)) + first_draw
        draws = numbers.astype(np.uint32)
        batches = []
        for start in range(0, len(group), size):
            rows = np.arange(start, min(start + size, len(group)))
            features = lay_out(group, rows, phase.max_length, self.pad_id)
            masked = phase.mask(features["token_ids"], draws[rows])
            masked = {name: ops.convert_to_numpy(x) for name, x in masked.items()}
            batches.append((rows, features, masked))
        weights = [masked["mask_weights"] for *_, masked in batches]
        # So that the mean over all slots is the mean over the masked tokens.
        scale = sum(w.size for w in weights) / max(1.0, sum(w.sum() for w in weights))
        return [
            self._fed(group, rows, features, masked, weight * scale, numbers[rows])
            for (rows, features, masked), weight in zip(batches, weights, strict=True)
        ]

    def _fed(
        self,
        group: Examples,
        rows: np.ndarray,
        features: dict[str, np.ndarray],
        masked: dict[str, np.ndarray],
        slot_weights: np.ndarray,
        numbers: np.ndarray,
    ) -> Fed:
        num_tokens = int(features["padding_mask"].sum())
        fed = {
            **features,
            "token_ids": masked["token_ids"],
            "mask_positions": masked["mask_positions"],
        }
        targets = {MASKED_LM: masked["mask_ids"]}
        weights = {MASKED_LM: slot_weights.astype(np.float32)}
        if self.next_sentence:
            targets[NEXT_SENTENCE] = group.next_sentence_labels[rows]
            weights[NEXT_SENTENCE] = np.ones(len(rows), np.float32)
        return Fed(fed, targets, weights, len(rows), num_tokens, numbers)


def lay_out(
    examples: Examples, rows: np.ndarray, max_length: int, pad_id: int
) -> dict[str, np.ndarray]:
    """`token_ids`, `segment_ids`, `padding_mask` of examples, each `[B, T]` int32."""
    columns = np.arange(max_length)
    lengths = examples.lengths[rows, None]  # (B, 1)
    is_token = columns < lengths  # (B, T)
    token_ids = np.full(is_token.shape, pad_id, np.int32)
    token_ids[is_token] = examples.select(rows).token_ids
    is_second = is_token & (columns >= examples.first_lengths[rows, None])
    return {
        "token_ids": token_ids,
        "segment_ids": is_second.astype(np.int32),
        "padding_mask": is_token.astype(np.int32),
    }


def compile_mask(layer: keras.layers.Layer) -> Mask:
    """The layer as one compiled function, where the backend has such."""
    backend = keras.config.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(layer, autograph=False)
    if backend == "jax":
        import jax

        return jax.jit(layer)
    return layer


class _Place(NamedTuple):
    """Where an example lies in its source."""

    epoch: int = 0
    block: int = 0
    example: int = 0


def _position(step: int, place: _Place, source: ExampleSource) -> dict[str, Any]:
    position: dict[str, Any] = {"step": step, **place._asdict()}
    bookmark = source.bookmark(place.epoch, place.block)
    return position if bookmark is None else position | {"bookmark": asdict(bookmark)}


class _Position(BaseModel):
    """What `_position` gave, as a checkpoint has kept it."""

    model_config = ConfigDict(extra="forbid")

    step: NonNegativeInt
    epoch: NonNegativeInt
    block: NonNegativeInt
    example: NonNegativeInt
    bookmark: Bookmark | None = None


def _parse(position: Mapping[str, Any]) -> tuple[int, _Place, Bookmark | None]:
    try:
        read = _Position.model_validate(position)
    except ValidationError as error:
        raise RunError(
            "The checkpoint does not say where the text goes on: its position."
            f"{first_problem(error)}. Delete it to go on from the one before."
        ) from None
    return read.step, _Place(read.epoch, read.block, read.example), read.bookmark


def _groups(
    source: ExampleSource, size: int, start: _Place
) -> Generator[tuple[Examples, _Place]]:
    """The examples in groups of `size`, over the epochs, without end.

    Args:
        start: the first example.

    Yields:
        The examples, and the place of the one after them.
    """
    waiting: list[Examples] = []
    num_waiting = 0
    epoch, first_block, first = start
    while True:
        for block, examples in enumerate(
            source.blocks(epoch, first_block), first_block
        ):
            if first:
                examples = examples.select(np.arange(first, len(examples)))
            # What waited fills no group, so that every group ends in this block.
            num_before = num_waiting - first
            first = 0
            waiting.append(examples)
            num_waiting += len(examples)
            if num_waiting < size:
                continue
            ready = Examples.concatenate(waiting)
            full = num_waiting - num_waiting % size
            for end in range(size, full + 1, size):
                place = _Place(epoch, block, end - num_before)
                if end == num_waiting:
                    place = _Place(epoch, block + 1)
                yield ready.select(np.arange(end - size, end)), place
            num_waiting -= full
            waiting = [ready.select(np.arange(full, len(ready)))]
        epoch += 1
        first_block = 0

"""Pretraining examples, masked and in batches, as they are fed to a training.

Axes: B rows of a batch, T tokens, P prediction slots.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from keras import ops

from kbert.data.pretraining import ExampleSource
from kbert.data.pretraining_examples import Examples
from kbert.models import MASKED_LM, NEXT_SENTENCE
from kbert.training.loop import Fed

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

    def updates(self, num_steps: int) -> Iterator[list[Fed]]:
        """The batches of each update, `num_steps` of them at most."""
        num_seen = 0
        for phase in self.phases:
            rows = phase.num_rows * self.accumulation
            groups = _groups(phase.source, rows)
            for _ in range(min(num_steps, phase.num_steps)):
                yield self.feed(phase, next(groups), first_draw=num_seen)
                num_seen += rows
            groups.close()
            num_steps -= phase.num_steps

    def feed(self, phase: Phase, group: Examples, *, first_draw: int) -> list[Fed]:
        """The batches of one update.

        Args:
            group: as many examples as the update has.
            first_draw: the number of the first example among all that were fed: it
                decides the masks.
        """
        size = phase.num_rows
        draws = (np.arange(len(group)) + first_draw).astype(np.uint32)
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
            self._fed(group, *batch, weight * scale)
            for batch, weight in zip(batches, weights, strict=True)
        ]

    def _fed(
        self,
        group: Examples,
        rows: np.ndarray,
        features: dict[str, np.ndarray],
        masked: dict[str, np.ndarray],
        slot_weights: np.ndarray,
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
        return Fed(fed, targets, weights, len(rows), num_tokens)


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

        return tf.function(layer)
    if backend == "jax":
        import jax

        return jax.jit(layer)
    return layer


def _groups(source: ExampleSource, size: int) -> Generator[Examples]:
    """The examples in groups of `size`, over the epochs, without end."""
    waiting: list[Examples] = []
    num_waiting = 0
    epoch = 0
    while True:
        for block in source.blocks(epoch):
            waiting.append(block)
            num_waiting += len(block)
            if num_waiting < size:
                continue
            ready = Examples.concatenate(waiting)
            full = num_waiting - num_waiting % size
            for start in range(0, full, size):
                yield ready.select(np.arange(start, start + size))
            num_waiting -= full
            waiting = [ready.select(np.arange(full, len(ready)))]
        epoch += 1

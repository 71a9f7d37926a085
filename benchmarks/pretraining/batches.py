"""What kbert and its peer are both fed: shapes, and masked batches of made-up tokens.

NumPy alone, so that it runs in either's environment.

Axes: B batch, T tokens, P prediction slots, V vocabulary.
"""

from typing import Any, NamedTuple

import numpy as np

VOCABULARY_SIZE = 30_522
CLS, SEP, MASK = 101, 102, 103
FIRST_WORD = 1_000  # the ids below are special or unused, as in BERT's vocabulary

# What both sides of step.py train with.
BATCH_SIZE, LENGTH, NUM_SLOTS, NUM_BATCHES = 32, 128, 19, 8
NUM_THREADS = 2
DROPOUT, WEIGHT_DECAY = 0.1, 0.01
LEARNING_RATE, WARMUP_STEPS, TOTAL_STEPS = 1e-3, 10, 100_000

Batch = dict[str, np.ndarray]


class Shape(NamedTuple):
    """The sizes of an encoder."""

    num_layers: int
    hidden_dim: int
    num_heads: int
    intermediate_dim: int


SHAPES = {"mini": Shape(4, 256, 4, 1024), "6x384": Shape(6, 384, 12, 1536)}


def make_batch(
    seed: int, *, batch_size: int, length: int, num_slots: int, padding: bool = False
) -> Batch:
    """A masked batch of sentence pairs.

    Words are drawn as they are frequent in texts (1 / rank), so that there is something
    to learn. 15 % of the tokens are predicted, `num_slots` at most; of these 80 % are
    [MASK], 10 % another word.

    Args:
        padding: rows of many lengths, the first one full; else all are full.

    Returns:
        `token_ids`, `segment_ids`, `padding_mask` `[B, T]` int32, `mask_positions` and
        `mask_ids` `[B, P]` int32, `mask_weights` `[B, P]` float32 (1, and 0 where a
        slot is unused), `next_sentence_labels` `[B]` int32.
    """
    rng = np.random.default_rng(seed)
    ranks = np.arange(1, VOCABULARY_SIZE - FIRST_WORD + 1)
    words = rng.choice(
        np.arange(FIRST_WORD, VOCABULARY_SIZE),
        size=(batch_size, length),
        p=1 / ranks / np.sum(1 / ranks),
    )
    batch = {
        "token_ids": np.zeros((batch_size, length), np.int32),
        "segment_ids": np.zeros((batch_size, length), np.int32),
        "padding_mask": np.zeros((batch_size, length), np.int32),
        "mask_positions": np.zeros((batch_size, num_slots), np.int32),
        "mask_ids": np.zeros((batch_size, num_slots), np.int32),
        "mask_weights": np.zeros((batch_size, num_slots), np.float32),
        "next_sentence_labels": rng.integers(2, size=batch_size, dtype=np.int32),
    }
    for row in range(batch_size):
        end = int(rng.integers(length // 4, length)) if padding and row else length
        split = int(rng.integers(end // 4, 3 * end // 4))  # where the first [SEP] is
        words[row, [0, split, end - 1]] = CLS, SEP, SEP
        batch["segment_ids"][row, split + 1 : end] = 1
        batch["padding_mask"][row, :end] = 1
        candidates = np.setdiff1d(np.arange(end), [0, split, end - 1])
        count = min(num_slots, round(0.15 * end))
        positions = np.sort(rng.choice(candidates, count, replace=False))
        batch["mask_positions"][row, :count] = positions
        batch["mask_ids"][row, :count] = words[row, positions]
        batch["mask_weights"][row, :count] = 1
        fate = rng.random(count)
        others = rng.integers(FIRST_WORD, VOCABULARY_SIZE, size=count)
        kept_or_other = np.where(fate < 0.9, others, words[row, positions])
        words[row, positions] = np.where(fate < 0.8, MASK, kept_or_other)
        batch["token_ids"][row, :end] = words[row, :end]
    return batch


def make_batches() -> list[Batch]:
    """The batches of step.py, over which both sides go in a circle."""
    return [
        make_batch(seed, batch_size=BATCH_SIZE, length=LENGTH, num_slots=NUM_SLOTS)
        for seed in range(NUM_BATCHES)
    ]


def hugging_face_config(
    shape: Shape, activation: str, dropout: float
) -> dict[str, Any]:
    """The arguments of Hugging Face's BertConfig of a shape."""
    return {
        "hidden_act": activation,
        "hidden_size": shape.hidden_dim,
        "intermediate_size": shape.intermediate_dim,
        "num_attention_heads": shape.num_heads,
        "num_hidden_layers": shape.num_layers,
        "vocab_size": VOCABULARY_SIZE,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
    }


def to_hugging_face(batch: Batch) -> Batch:
    """The same batch under Hugging Face's names, int64; -100 where nothing is asked."""
    labels = np.full(batch["token_ids"].shape, -100)
    rows, slots = np.nonzero(batch["mask_weights"])
    labels[rows, batch["mask_positions"][rows, slots]] = batch["mask_ids"][rows, slots]
    arrays = {
        "input_ids": batch["token_ids"],
        "token_type_ids": batch["segment_ids"],
        "attention_mask": batch["padding_mask"],
        "labels": labels,
        "next_sentence_label": batch["next_sentence_labels"],
    }
    return {name: array.astype(np.int64) for name, array in arrays.items()}

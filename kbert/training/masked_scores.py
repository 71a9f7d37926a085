"""How well a BERT predicts masked tokens and next sentences, on held-out examples.

Axes: B rows of a batch, P prediction slots.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from kbert.data.pretraining_examples import Examples
from kbert.models import MASKED_LM, NEXT_SENTENCE, BertForPretraining
from kbert.training.loop import diverged
from kbert.training.masked_data import Mask, lay_out

METRICS = (
    "loss",
    "masked_lm_loss",
    "masked_lm_accuracy",
    "perplexity",
    "next_sentence_loss",
    "next_sentence_accuracy",
)
_ROWS = 32


class PretrainingScores(keras.Model):
    """The sums that the metrics are made of, so that no logits leave the model.

    Input: that of `BertForPretraining`, with `mask_ids` and `mask_weights` `[B, P]` and
    `next_sentence_labels` `[B]`. Output: `[B]` float32 each: `masked_lm_loss` and
    `masked_lm_hits`, summed over the slots, and `next_sentence_loss` and
    `next_sentence_hits` where the model has that head.
    """

    def __init__(self, model: BertForPretraining) -> None:
        super().__init__()
        self.model = model
        self.built = True

    def call(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """See the class."""
        outputs = self.model(inputs, training=False)
        weights, ids = inputs["mask_weights"], inputs["mask_ids"]
        losses, hits = _score(outputs[MASKED_LM], ids)
        scores = {
            "masked_lm_loss": ops.sum(losses * weights, axis=-1),
            "masked_lm_hits": ops.sum(hits * weights, axis=-1),
        }
        if NEXT_SENTENCE in outputs:
            losses, hits = _score(
                outputs[NEXT_SENTENCE], inputs["next_sentence_labels"]
            )
            scores |= {"next_sentence_loss": losses, "next_sentence_hits": hits}
        return scores


def _score(logits, targets):  # type: ignore[no-untyped-def]
    """Cross-entropy and whether the best is right, `[...]`, of logits `[..., V]`."""
    losses = ops.sparse_categorical_crossentropy(targets, logits, from_logits=True)
    hits = ops.equal(ops.argmax(logits, axis=-1), ops.cast(targets, "int32"))
    return losses, ops.cast(hits, "float32")


def evaluate_examples(
    scores: PretrainingScores,
    blocks: Iterable[Examples],
    mask: Mask,
    *,
    max_length: int,
    pad_id: int,
    next_sentence_weight: float,
    on_batch: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """The metrics of `METRICS`, `num_examples` and `num_masked`.

    The masks are the same at every call: the number of an example decides them.

    Args:
        blocks: the examples, in blocks that fit in memory.
        next_sentence_weight: of the next-sentence loss in `loss`.
        on_batch: told the examples and the tokens of each batch that is done.

    Raises:
        TrainingError: the model's outputs are no numbers.
    """
    sums: dict[str, float] = {}
    num_masked = num_examples = 0
    for examples, rows in _batches(blocks):
        features = lay_out(examples, rows, max_length, pad_id)
        # The last batch is filled up, so that a compiler meets one shape.
        features = {name: _filled(array) for name, array in features.items()}
        draws = _filled((num_examples + np.arange(len(rows))).astype(np.uint32))
        masked = mask(features["token_ids"], draws)
        masked = {name: ops.convert_to_numpy(value) for name, value in masked.items()}
        labels = _filled(examples.next_sentence_labels[rows])
        found = scores.predict_on_batch(
            features | masked | {"next_sentence_labels": labels}
        )
        for name, values in found.items():
            total = float(np.asarray(values, np.float64)[: len(rows)].sum())
            sums[name] = sums.get(name, 0.0) + total
        num_examples += len(rows)
        num_masked += int(masked["mask_weights"][: len(rows)].sum())
        if on_batch is not None:
            on_batch(len(rows), int(features["padding_mask"][: len(rows)].sum()))
    if not all(map(math.isfinite, sums.values())):
        raise diverged("the model's outputs are no numbers")
    return _metrics(sums, num_masked, num_examples, next_sentence_weight)


def _batches(blocks: Iterable[Examples]) -> Iterator[tuple[Examples, np.ndarray]]:
    for examples in blocks:
        for start in range(0, len(examples), _ROWS):
            yield examples, np.arange(start, min(start + _ROWS, len(examples)))


def _filled(array: np.ndarray) -> np.ndarray:
    """The array with copies of its first row up to a whole batch."""
    return np.concatenate([array, np.repeat(array[:1], _ROWS - len(array), axis=0)])


def _metrics(
    sums: dict[str, float], num_masked: int, num_examples: int, weight: float
) -> dict[str, Any]:
    masked_lm_loss = sums["masked_lm_loss"] / max(1, num_masked)
    metrics: dict[str, Any] = {
        "loss": masked_lm_loss,
        "masked_lm_loss": masked_lm_loss,
        "masked_lm_accuracy": sums["masked_lm_hits"] / max(1, num_masked),
        # Beyond any vocabulary; so that a hopeless model does not overflow.
        "perplexity": math.exp(min(masked_lm_loss, 100.0)),
    }
    if "next_sentence_loss" in sums:
        next_sentence_loss = sums["next_sentence_loss"] / num_examples
        metrics["next_sentence_loss"] = next_sentence_loss
        metrics["next_sentence_accuracy"] = sums["next_sentence_hits"] / num_examples
        metrics["loss"] += weight * next_sentence_loss
    return metrics | {"num_examples": num_examples, "num_masked": num_masked}

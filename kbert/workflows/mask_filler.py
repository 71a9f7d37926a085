"""A pretrained run, loaded to answer: which tokens may stand where a mask stands.

Axes: B batch, T tokens, D hidden, V vocabulary, M masks, K proposals for a mask.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from kbert.data.batching import Batching
from kbert.data.encoded import EncodedDataset
from kbert.errors import ConfigError, DataError, RunError
from kbert.runs import RunFolder, open_run
from kbert.tasks import MaskedLM
from kbert.training.prediction import predict_batches
from kbert.vocabulary import MASK, SPECIAL_TOKENS
from kbert.workflows.applying import (
    TOKENS_PER_BATCH,
    WINDOW,
    Text,
    check_max_length,
    check_precision,
    check_text,
    preset_of,
    tokenizer_of,
)
from kbert.workflows.masked_texts import MaskedText, MaskedTextEncoder

DEFAULT_TOP_K = 5
_MAX_TOP_K = 1000
# Probabilities of the whole vocabulary are computed for so many masks at a time, and
# proposals are kept for so many at a time: memory stays constant.
_MASKS_PER_BATCH = 256
_PROPOSALS_PER_WINDOW = 1_000_000


@dataclass(frozen=True)
class _Proposals:
    """The likeliest tokens of each mask, best first: `[M, K]` each."""

    token_ids: np.ndarray
    scores: np.ndarray


class MaskFiller:
    """A loaded run of `kbert pretrain`.

    Args:
        run: a run folder, or its path.
        precision: float32, mixed_bfloat16 or mixed_float16.
        top_k: K, how many tokens to propose for a mask; fewer where the vocabulary
            has fewer.

    Raises:
        ConfigError: there is no such precision, or `top_k` is out of range.
        RunError: the run is no run, was not pretrained, or is damaged.
        PresetError: its model cannot be loaded.
    """

    is_paired = False

    def __init__(
        self,
        run: RunFolder | str | os.PathLike[str],
        *,
        precision: str = "float32",
        top_k: int = DEFAULT_TOP_K,
    ) -> None:
        check_precision(precision)
        if type(top_k) is not int or not 1 <= top_k <= _MAX_TOP_K:
            raise ConfigError(
                f"top_k must be a whole number from 1 to {_MAX_TOP_K:,}. "
                f"Received: {top_k!r}."
            )
        self.run = run if isinstance(run, RunFolder) else open_run(run)
        task = MaskedLM.from_dict(self.run.read_task(), str(self.run.task_file))
        self.columns = task.columns
        preset = preset_of(self.run)
        check_max_length(task.max_length, preset, self.run.task_file)
        self.tokenizer = tokenizer_of(preset)
        model = task.load_model(str(preset.folder), dtype=precision)
        self._model = keras.Model(
            model.backbone.input, model.backbone.output["sequence_output"]
        )
        self._proposer = _build_proposer(model, self.tokenizer.vocabulary, top_k)
        self._encoder = MaskedTextEncoder(
            self.tokenizer, task.max_length, self.run.path
        )
        self._batching = Batching(task.max_length, tokens_per_batch=TOKENS_PER_BATCH)
        self._masks_per_window = max(1, _PROPOSALS_PER_WINDOW // top_k)

    def answers(self, texts: Iterable[Text]) -> Iterator[dict[str, Any]]:
        """Fills the masks of texts, in their order, as a stream.

        A text may have several masks; each is filled while the others stand. A text
        that is too long is cut around its masks.

        Yields:
            `text`, and `fills`, a list for each mask, best first, of `token`, `score`
            (the probability) and `text` with that mask replaced. Special tokens are
            not proposed.

        Raises:
            DataError: a text without [MASK], or one whose masks are too far apart.
            RunError: a pair of texts.
            TypeError: no text.
        """
        for window in self._windows(texts):
            dataset = self._encoder.encode(window)
            proposals = self._propose(dataset)
            row = 0
            for text in window:
                yield self._answer(text, proposals, row)
                row += text.num_masks

    def _windows(self, texts: Iterable[Text]) -> Iterator[list[MaskedText]]:
        """The texts, checked, as many at a time as shall be in memory."""
        window: list[MaskedText] = []
        num_masks = 0
        for number, text in enumerate(texts):
            window.append(self._check(text, number))
            num_masks += window[-1].num_masks
            if len(window) == WINDOW or num_masks >= self._masks_per_window:
                yield window
                window, num_masks = [], 0
        if window:
            yield window

    def _check(self, text: Text, number: int) -> MaskedText:
        check_text(text, number)
        if not isinstance(text, str):
            raise RunError(
                f"The run {self.run.path} fills the masks of single texts. Received: "
                f"{text!r:.80}."
            )
        if MASK not in text:
            raise DataError(
                f"The run {self.run.path} fills masks: each text needs a {MASK}, in "
                f"capitals, where a word is wanted. Received, as text {number + 1}: "
                f'{text!r:.80}. For example: "Paris is the {MASK} of France."'
            )
        return MaskedText(text, number + 1)

    def _propose(self, dataset: EncodedDataset) -> _Proposals:
        """Proposals for all masks, in the order of the texts."""
        is_mask = dataset.token_ids == self.tokenizer.mask_id
        number = np.cumsum(is_mask) - 1  # of a mask, by where its token is
        num_proposals = self._proposer.output["scores"].shape[-1]
        shape = (int(is_mask.sum()), num_proposals)
        found = _Proposals(np.empty(shape, np.int32), np.empty(shape, np.float32))
        pad_id = self.tokenizer.pad_id
        for batch, hidden in predict_batches(
            self._model, dataset, self._batching, pad_id
        ):
            token_ids = batch.features["token_ids"][: len(batch.rows)]
            rows, positions = np.nonzero(token_ids == self.tokenizer.mask_id)
            masks = number[dataset.starts[batch.rows[rows]] + positions]
            self._propose_for(hidden[rows, positions], masks, found)
        return found

    def _propose_for(
        self, hidden: np.ndarray, masks: np.ndarray, found: _Proposals
    ) -> None:
        """Enters the proposals for hidden states `[m, D]` of the masks `[m]`."""
        for start in range(0, len(masks), _MASKS_PER_BATCH):
            chosen = masks[start : start + _MASKS_PER_BATCH]
            # Powers of two, so that a compiler meets few shapes.
            size = 1 << (len(chosen) - 1).bit_length()
            padded = np.zeros((size, hidden.shape[-1]), np.float32)
            padded[: len(chosen)] = hidden[start : start + _MASKS_PER_BATCH]
            proposals = self._proposer.predict_on_batch(padded)
            found.token_ids[chosen] = proposals["token_ids"][: len(chosen)]
            found.scores[chosen] = proposals["scores"][: len(chosen)]

    def _answer(
        self, text: MaskedText, proposals: _Proposals, row: int
    ) -> dict[str, Any]:
        """The answer to a text whose first mask has the proposals of `row`."""
        fills = []
        for mask in range(text.num_masks):
            ids, scores = proposals.token_ids[row + mask], proposals.scores[row + mask]
            tokens = [self.tokenizer.vocabulary[token_id] for token_id in ids]
            fills.append(
                [
                    {
                        "token": token,
                        "score": float(score),
                        "text": text.fill(mask, token),
                    }
                    for token, score in zip(tokens, scores, strict=True)
                ]
            )
        return {"text": text.text, "fills": fills}


def _build_proposer(
    model: keras.Model, vocabulary: tuple[str, ...], top_k: int
) -> keras.Model:
    """The masked-LM head, and behind it the choice of the likeliest tokens.

    Takes the encoder's output at the masks, `[M, D]` float32, and gives `scores` and
    `token_ids`, `[M, K]`. A score is a probability among all V tokens; special tokens,
    and embeddings that have no token, are never chosen.
    """
    size = model.backbone.vocabulary_size
    barred = np.array([token in SPECIAL_TOKENS for token in vocabulary])
    barred = np.pad(barred, (0, size - len(vocabulary)), constant_values=True)
    hidden = keras.Input((model.backbone.hidden_dim,), dtype="float32")
    # The head picks positions of a sequence; here each has one.
    first = ops.zeros_like(hidden[:, :1], dtype="int32")
    logits = model.masked_lm_head(hidden[:, None], first)[:, 0]  # (M, V)
    probabilities = ops.softmax(ops.cast(logits, "float32"))
    allowed = ops.where(barred, np.float32(-1), probabilities)
    num_proposals = min(top_k, int((~barred).sum()))
    scores, token_ids = ops.top_k(allowed, num_proposals)
    return keras.Model(hidden, {"scores": scores, "token_ids": token_ids})

"""Texts with masks in them: what stands where, and as tokens."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from kbert.data.encoded import EncodedDataset
from kbert.data.values import to_bytes
from kbert.errors import DataError
from kbert.tokenization import WordPieceTokenizer
from kbert.vocabulary import MASK


@dataclass(frozen=True)
class MaskedText:
    """A text as it was given.

    Attributes:
        text: the whole of it.
        number: its place among the texts, counted from 1.
    """

    text: str
    number: int

    @property
    def parts(self) -> list[str]:
        """What stands before, between and behind the masks."""
        return self.text.split(MASK)

    @property
    def num_masks(self) -> int:
        return self.text.count(MASK)

    def fill(self, mask: int, token: str) -> str:
        """The text with one mask replaced; `##` joins to what stands before."""
        parts = self.parts
        before, after = MASK.join(parts[: mask + 1]), MASK.join(parts[mask + 1 :])
        if token.startswith("##"):
            before, token = before.rstrip(), token.removeprefix("##")
        return before + token + after


class MaskedTextEncoder:
    """Turns texts with masks into tokens.

    Args:
        run_path: of the run, for messages.
        max_length: tokens, [CLS] and [SEP] included, that the model takes.
    """

    def __init__(
        self, tokenizer: WordPieceTokenizer, max_length: int, run_path: Path
    ) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._run_path = run_path
        strings = tf.TensorSpec([None], tf.string)
        self._tokenize = tf.function(
            tokenizer.tokenize, input_signature=[strings], autograph=False
        )

    def encode(self, window: list[MaskedText]) -> EncodedDataset:
        """Tokens with [CLS] and [SEP]; what spells [MASK] becomes the mask token.

        Raises:
            DataError: the masks of a text are too far apart.
        """
        parts = [to_bytes(part) for text in window for part in text.parts]
        tokens = self._tokenize(tf.constant(parts, tf.string))
        pieces = iter(np.split(tokens.values.numpy(), tokens.row_splits.numpy()[1:-1]))
        mask = np.array([self._tokenizer.mask_id], np.int32)
        rows = []
        for text in window:
            row = [next(pieces)]
            for _ in range(text.num_masks):
                row += [mask, next(pieces)]
            rows.append(self._pack(np.concatenate(row), text))
        lengths = np.array([len(row) for row in rows])
        token_ids = np.concatenate(rows)
        return EncodedDataset(
            name="texts",
            token_ids=token_ids,
            segment_ids=np.zeros(len(token_ids), np.uint8),
            starts=np.cumsum(lengths) - lengths,
            lengths=lengths,
        )

    def _pack(self, tokens: np.ndarray, text: MaskedText) -> np.ndarray:
        """Adds [CLS] and [SEP]; of too many tokens, keeps those around the masks.

        What is kept is of one piece, since so were the texts of the training.
        """
        room = self._max_length - 2
        if len(tokens) > room:
            masks = np.flatnonzero(tokens == self._tokenizer.mask_id)
            span = masks[-1] - masks[0] + 1
            if span > room:
                raise DataError(
                    f"The run {self._run_path} takes {room} tokens at a time, and all "
                    f"masks of a text must be among them. Received, as text "
                    f"{text.number}, masks {span} tokens apart: {text.text!r:.80}. "
                    "Give it as several texts."
                )
            start = np.clip(masks[0] - (room - span) // 2, 0, len(tokens) - room)
            tokens = tokens[start : start + room]
        ends = self._tokenizer.cls_id, self._tokenizer.sep_id
        return np.concatenate([ends[:1], tokens, ends[1:]]).astype(np.int32)

"""Documents as tokens: what examples are built of."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TokenizedDocuments:
    """Documents of sentences of tokens, flat. No document or sentence is empty.

    Attributes:
        token_ids: `[tokens]` int32.
        sentence_ends: `[sentences]` int64; where in the tokens each sentence ends.
        document_ends: `[documents]` int64; where in the sentences each document ends.
    """

    token_ids: np.ndarray
    sentence_ends: np.ndarray
    document_ends: np.ndarray

    def __len__(self) -> int:
        return len(self.document_ends)

    @staticmethod
    def from_lengths(
        token_ids: np.ndarray,
        sentence_lengths: np.ndarray,
        num_sentences: np.ndarray,
    ) -> "TokenizedDocuments":
        """Leaves out what is empty.

        Args:
            token_ids: `[tokens]`, the sentences one after the other.
            sentence_lengths: `[sentences]`; tokens of each, 0 among them.
            num_sentences: `[documents]`; sentences of each, 0 among them.
        """
        is_kept = sentence_lengths > 0
        num_kept = np.concatenate([[0], np.cumsum(is_kept)])  # [sentences + 1]
        document_ends = num_kept[np.cumsum(num_sentences)]  # [documents]
        is_filled = np.diff(document_ends, prepend=0) > 0
        return TokenizedDocuments(
            token_ids,
            np.cumsum(sentence_lengths)[is_kept],
            document_ends[is_filled],
        )

"""The masking that settings and a tokenizer ask for."""

import re

from kbert.layers import MaskedLMMask
from kbert.pretrain_settings import PretrainDataSettings
from kbert.tokenization import WordPieceTokenizer
from kbert.vocabulary import SPECIAL_TOKENS

# Placeholders that the original vocabularies keep for their users.
_UNUSED = re.compile(r"\[unused\d+\]")
_NUM_FRAMING = 2  # [CLS] and the last [SEP] of an example


def build_mask(
    tokenizer: WordPieceTokenizer,
    data: PretrainDataSettings,
    *,
    max_length: int,
    seed: int,
) -> MaskedLMMask:
    """The masking layer, with as many slots as the longest example can fill."""
    tokens = tokenizer.vocabulary
    special = [
        number
        for number, token in enumerate(tokens)
        if token in SPECIAL_TOKENS or _UNUSED.fullmatch(token)
    ]
    most = round(data.mask_selection_rate * (max_length - _NUM_FRAMING))
    return MaskedLMMask(
        len(tokens),
        tokenizer.mask_id,
        special_token_ids=special,
        mask_selection_rate=data.mask_selection_rate,
        mask_selection_length=max(1, most),
        mask_token_rate=data.mask_token_rate,
        random_token_rate=data.random_token_rate,
        whole_word=data.whole_word,
        continuation=[t.startswith("##") for t in tokens] if data.whole_word else None,
        seed=seed,
    )

"""Upper and lower case: what a vocabulary can tell apart, and what text is made."""

import logging
from collections.abc import Sequence

from kbert.presets import Preset
from kbert.pretrain_settings import PretrainConfig
from kbert.vocabulary import read_vocabulary

logger = logging.getLogger(__name__)

# Of BERT's cased vocabularies about a third have capitals, of its uncased ones none; a
# few may have come in by hand.
_CASED_SHARE = 0.05


def tokenizing_of(config: PretrainConfig, preset: Preset | None) -> tuple[bool, bool]:
    """Whether text is lower-cased, and whether accents are stripped."""
    if preset is not None:
        return preset.lowercase, preset.strip_accents
    model = config.model
    lowercase = True if model.lowercase is None else model.lowercase
    return lowercase, lowercase if model.strip_accents is None else model.strip_accents


def settle_case(config: PretrainConfig, preset: Preset | None) -> PretrainConfig:
    """The settings with `model.lowercase` false where a given vocabulary is cased.

    Warns where the user decided otherwise: what has a capital is never found then.

    Raises:
        PresetError: the vocabulary cannot be read.
    """
    model = config.model
    if preset is not None:
        owner, tokens = f"the vocabulary of {preset.name}", preset.vocabulary
    elif model.vocabulary is not None:
        owner, tokens = model.vocabulary, read_vocabulary(model.vocabulary)
    else:
        return config
    share = capital_share(tokens)
    if share < _CASED_SHARE:
        return config
    capitals = f"of the words and pieces in {owner}, {share:.0%} have capital letters"
    if model.lowercase:
        logger.warning(
            "%s: model.lowercase = true leaves them without use. Leave the setting out "
            "to keep the case of the text.",
            capitals,
        )
    if model.lowercase is not None or preset is not None:
        return config
    logger.info("%s: the text keeps its case (model.lowercase = false)", capitals)
    return config.model_copy(
        update={"model": model.model_copy(update={"lowercase": False})}
    )


def capital_share(tokens: Sequence[str]) -> float:
    """The share with capital letters, of the tokens in a script that has them.

    Special and unused ones, in brackets, do not count.
    """
    words = [token for token in tokens if not token.startswith("[")]
    has_case = [token for token in words if token.lower() != token.upper()]
    return sum(token.lower() != token for token in has_case) / max(1, len(has_case))

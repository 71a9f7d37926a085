"""The sizes of BERT by name, as google-research/bert names them.

Source: the tables of https://github.com/google-research/bert (Devlin et al. 2019 for
base and large, Turc et al. 2019, https://arxiv.org/abs/1908.08962, for the others).
"""

from typing import NamedTuple

from kbert.errors import ConfigError
from kbert.preset_files import MAX_LAYERS, MAX_PARAMETERS, Architecture
from kbert.pretrain_settings import PretrainModelSettings

DEFAULT_SIZE = "mini"
DEFAULT_DROPOUT = 0.1


class Size(NamedTuple):
    """What a name stands for."""

    num_layers: int
    hidden_dim: int
    num_heads: int


SIZES = {
    "tiny": Size(2, 128, 2),
    "mini": Size(4, 256, 4),
    "small": Size(4, 512, 8),
    "medium": Size(8, 512, 8),
    "base": Size(12, 768, 12),
    "large": Size(24, 1024, 16),
}


def new_architecture(
    settings: PretrainModelSettings, *, vocabulary_size: int, max_length: int
) -> Architecture:
    """The numbers of a new BERT, by size and by what is set over it.

    Args:
        max_length: tokens of the longest example; there are as many positions, if no
            other number is set.

    Raises:
        ConfigError: the numbers make no BERT.
    """
    size = SIZES[settings.size or DEFAULT_SIZE]
    hidden_dim = settings.hidden_dim or size.hidden_dim
    num_heads = settings.num_heads or size.num_heads
    if hidden_dim % num_heads:
        raise ConfigError(
            "model.hidden_dim must be a multiple of model.num_heads. Received: "
            f"{hidden_dim} and {num_heads}."
        )
    positions = settings.max_sequence_length or max_length
    if positions < max_length:
        raise ConfigError(
            "model.max_sequence_length must be at least data.max_length. Received: "
            f"{positions} and {max_length}."
        )
    dropout = settings.dropout
    architecture = Architecture(
        vocabulary_size=vocabulary_size,
        num_layers=settings.num_layers or size.num_layers,
        num_heads=num_heads,
        hidden_dim=hidden_dim,
        intermediate_dim=settings.intermediate_dim or 4 * hidden_dim,
        max_sequence_length=positions,
        num_segments=2,
        dropout=DEFAULT_DROPOUT if dropout is None else dropout,
    )
    if architecture.num_layers > MAX_LAYERS:
        raise ConfigError(
            f"model.num_layers must be at most {MAX_LAYERS:,}. Received: "
            f"{architecture.num_layers:,}."
        )
    if architecture.num_parameters > MAX_PARAMETERS:
        raise ConfigError(
            f"The sizes under model make {architecture.num_parameters:,} parameters; "
            f"kbert makes models of at most {MAX_PARAMETERS:,}. Give smaller ones."
        )
    return architecture

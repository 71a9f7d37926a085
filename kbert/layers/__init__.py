"""kbert's own Keras layers: what a BERT is made of, and the masking it learns from.

On every backend of Keras 3, in any float precision, compiled by XLA or not. Layers take
plain arguments and know nothing of settings, files or presets.
"""

from kbert.layers.attention import MultiHeadAttention
from kbert.layers.embeddings import BertEmbeddings, sinusoidal_positions
from kbert.layers.encoder_layer import EncoderLayer
from kbert.layers.heads import MaskedLMHead, NextSentenceHead
from kbert.layers.masked_lm_mask import MaskedLMMask

__all__ = [
    "BertEmbeddings",
    "EncoderLayer",
    "MaskedLMHead",
    "MaskedLMMask",
    "MultiHeadAttention",
    "NextSentenceHead",
    "sinusoidal_positions",
]

"""How many floating-point operations the matrix products of a step are.

A product of `[m, k]` and `[k, n]` is `2 m k n` operations. What is counted is what the
model asks for, whatever a backend computes twice; softmax, norms, activations, dropout
and the optimizer are no products and not counted, nor are the products with one vector
a row (the pooler, the logits, the next sentence), which are below `1 / T` of a layer's.

Axes: B rows, T tokens, D hidden, F feed-forward, L layers, P prediction slots, V
vocabulary.
"""

from kbert.preset_files import Architecture


def forward_operations(
    architecture: Architecture, batch_size: int, length: int, num_wanted: int
) -> int:
    """Those of an encoder's forward pass, of which few tokens are read at the end.

    Of each layer `2 B T (4 D D + 2 D F) + 4 B T T D`. The first are the products with
    weights: query, key, value and output of `[D, D]`, and the two of the feed-forward
    net. The others are the attention's: the scores, and their product with the values.
    Of the last layer key and value alone are of all tokens, the rest of the wanted.

    Args:
        batch_size: B.
        length: T.
        num_wanted: tokens of a row whose vectors are read.
    """
    square = architecture.hidden_dim**2
    net = 2 * architecture.hidden_dim * architecture.intermediate_dim
    attention = 4 * length * architecture.hidden_dim  # of a token
    layer = length * (2 * (4 * square + net) + attention)
    last = 4 * length * square + num_wanted * (2 * (2 * square + net) + attention)
    return batch_size * ((architecture.num_layers - 1) * layer + last)


def masked_lm_operations(
    architecture: Architecture, batch_size: int, num_slots: int
) -> int:
    """Those of the masked-LM head's forward pass: `2 B P D (D + V)`.

    Args:
        batch_size: B.
        num_slots: P.
    """
    a = architecture
    width = a.hidden_dim + a.vocabulary_size
    return 2 * batch_size * num_slots * a.hidden_dim * width


def training_operations(forward: int) -> int:
    """Those of a training step, three times those of its forward pass.

    Each product has two more in the backward pass, of the same size: one gives the
    gradient of its left factor, one that of its right one.
    """
    return 3 * forward

"""BERT's formulas in plain NumPy, float64, and nothing of kbert's.

Axes: B batch, T tokens, P prediction slots, N heads, D hidden, V vocabulary.
"""

import math

import numpy as np


def softmax(x):
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def gelu(x, *, approximate):
    if approximate:
        inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
        return 0.5 * x * (1 + np.tanh(inner))
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def layer_norm(x, gamma, beta, epsilon):
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return gamma * (x - mean) / np.sqrt(variance + epsilon) + beta


def attention(x, padding_mask, weights, num_heads):
    """Output `[B, T, D]` and probabilities `[B, N, T, T]`, one head after the other."""
    kernel, bias, output_kernel, output_bias = weights
    hidden_dim = x.shape[-1]
    size = hidden_dim // num_heads
    query, key, value = np.split(x @ kernel + bias, 3, axis=-1)
    heads, probabilities = [], []
    for number in range(num_heads):
        part = slice(number * size, (number + 1) * size)
        scores = query[..., part] @ key[..., part].swapaxes(1, 2) / math.sqrt(size)
        scores = np.where(padding_mask[:, None, :] == 0, -np.inf, scores)  # (B, T, T)
        probabilities.append(softmax(scores))
        heads.append(probabilities[-1] @ value[..., part])
    output = np.concatenate(heads, axis=-1) @ output_kernel + output_bias
    return output, np.stack(probabilities, axis=1)


def encoder_layer(x, padding_mask, weights, *, num_heads, approximate_gelu, epsilon):
    """`weights`: four of the attention, its norm, two dense layers, the last norm."""
    attended, _ = attention(x, padding_mask, weights[:4], num_heads)
    x = layer_norm(x + attended, *weights[4:6], epsilon)
    inner = gelu(x @ weights[6] + weights[7], approximate=approximate_gelu)
    return layer_norm(x + inner @ weights[8] + weights[9], *weights[10:12], epsilon)


def embeddings(token_ids, segment_ids, weights, epsilon):
    """`weights`: tables of positions, tokens and segments, and the norm."""
    positions, tokens, segments, gamma, beta = weights
    total = np.zeros((*token_ids.shape, tokens.shape[1]))
    for row in range(token_ids.shape[0]):
        for place in range(token_ids.shape[1]):
            total[row, place] = (
                tokens[token_ids[row, place]]
                + segments[segment_ids[row, place]]
                + positions[place]
            )
    return layer_norm(total, gamma, beta, epsilon)


def masked_lm_head(x, mask_positions, weights, *, approximate_gelu, epsilon):
    """`weights`: own bias, token table, dense layer and norm. Logits `[B, P, V]`."""
    bias, table, kernel, dense_bias, gamma, beta = weights
    rows = np.arange(len(x))[:, None]
    inner = gelu(
        x[rows, mask_positions] @ kernel + dense_bias, approximate=approximate_gelu
    )
    return layer_norm(inner, gamma, beta, epsilon) @ table.T + bias

"""How a new BERT begins (Devlin et al. 2019, as published in the original code)."""

import keras


def bert_initializer() -> keras.initializers.Initializer:
    """A normal distribution of deviation 0.02, cut off at two deviations."""
    return keras.initializers.TruncatedNormal(stddev=0.02)

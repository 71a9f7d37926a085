"""A token table that several layers share, also after they were saved and loaded."""

from typing import Any

import keras


def restore_token_embedding(config: dict[str, Any]) -> dict[str, Any]:
    """A layer's config with `token_embedding` as a layer, whether it was one or not.

    `get_config` gives the table itself: Keras then finds out while it saves that two
    layers hold the same one. It comes back as a layer or, from a file, as its config.
    """
    table = config["token_embedding"]
    if isinstance(table, dict):
        table = keras.layers.deserialize(table)
    return config | {"token_embedding": table}

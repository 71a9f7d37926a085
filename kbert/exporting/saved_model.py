"""Writing a SavedModel that needs nothing but TensorFlow's runtime."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from kbert.tasks.served import Signature


def write_saved_model(
    folder: Path, signatures: Mapping[str, Signature], variables: Sequence[tf.Variable]
) -> None:
    """Writes signatures and the variables they read to a folder.

    Nothing is compiled by XLA, which TensorFlow Serving has switched off, and no
    Python object is kept: graphs and variables only.

    Args:
        folder: a folder that exists.
        signatures: what the model can be asked, by name.
        variables: every variable that the signatures read.

    Raises:
        tf.errors.OpError: the folder cannot be written.
    """
    module = tf.Module()
    module.kept_variables = list(variables)
    functions = {
        name: tf.function(
            signature.function, input_signature=signature.inputs, autograph=False
        ).get_concrete_function()
        for name, signature in signatures.items()
    }
    # The functions for training a loaded model further: a server never does.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(folder), signatures=functions, options=options)
    assets = folder / "assets"
    if assets.is_dir() and not any(assets.iterdir()):
        shutil.rmtree(assets)

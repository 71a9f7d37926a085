"""Writing a SavedModel that needs nothing but TensorFlow's runtime."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
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


@contextlib.contextmanager
def disk_errors_of(folder: Path) -> Iterator[None]:
    """Makes an OSError that names `folder` of what TensorFlow raises for its disk.

    Raises:
        OSError: ENOSPC where the disk is full, else EIO.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError:
        full = os.strerror(errno.ENOSPC)
        raise OSError(errno.ENOSPC, full, str(folder)) from None
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message, str(folder)) from None

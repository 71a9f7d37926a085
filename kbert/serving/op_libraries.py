"""The operations of tensorflow-text that an export needs, and no others.

TensorFlow Serving links all of tensorflow-text, and which of its operations work
differs from release to release. Here only those are registered that work in all, so
that a model which needs more fails on this machine already.
"""

import functools
import importlib.util
import logging
from pathlib import Path

import tensorflow as tf

logger = logging.getLogger(__name__)

PORTABLE = ("_fast_wordpiece_tokenizer.so", "_regex_split_ops.so", "_normalize_ops.so")


@functools.cache
def register() -> None:
    """Registers the operations in this process, once.

    tensorflow_text is not imported: that would register them all. Where it is not
    installed a model without its operations can still be served, and one that uses
    them names what is missing.

    Raises:
        tf.errors.NotFoundError: a library does not fit this TensorFlow.
    """
    spec = importlib.util.find_spec("tensorflow_text")
    if spec is None or not spec.submodule_search_locations:
        logger.warning(
            "tensorflow-text is not installed: models that tokenize cannot be loaded"
        )
        return
    folder = Path(spec.submodule_search_locations[0], "python", "ops")
    for name in PORTABLE:
        tf.load_op_library(str(folder / name))

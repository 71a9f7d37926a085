"""The operations of tensorflow-text that an export needs, and no others.

TensorFlow Serving links all of tensorflow-text; which of its operations work differs
from release to release (exporting's portable profile). Here only three libraries are
registered, so that a model which needs more fails on this machine already.
"""

import importlib.util
import logging
import threading
from pathlib import Path

import tensorflow as tf

logger = logging.getLogger(__name__)

PORTABLE = ("_fast_wordpiece_tokenizer.so", "_regex_split_ops.so", "_normalize_ops.so")

_lock = threading.Lock()
_is_done = False


def register() -> None:
    """Registers the operations in this process, once.

    tensorflow_text is not imported: that would register them all. Where it is not
    installed a model without its operations can still be served, and one that uses
    them names what is missing.
    """
    global _is_done
    with _lock:
        if _is_done:
            return
        spec = importlib.util.find_spec("tensorflow_text")
        if spec is None or not spec.submodule_search_locations:
            logger.warning(
                "tensorflow-text is not installed; a model with a tokenizer in it "
                "cannot be loaded"
            )
        else:
            folder = Path(spec.submodule_search_locations[0], "python", "ops")
            for name in PORTABLE:
                tf.load_op_library(str(folder / name))
        _is_done = True

"""Loads a SavedModel by TensorFlow's C API: the C++ loader of TensorFlow Serving.

A script of its own, run by `kbert.exporting.checklist.backends` as
`python -P native.py LIBTENSORFLOW FOLDER OP_LIBRARY...`; kbert never imports it. It
prints nothing where the loading succeeds, else TensorFlow's message.
"""

import ctypes
import sys
from collections.abc import Sequence
from typing import Any


def load(tensorflow: str, folder: str, op_libraries: Sequence[str]) -> str:
    """TensorFlow's message; empty where it loads."""
    library: Any = ctypes.CDLL(tensorflow)
    for name in (
        "TF_NewStatus",
        "TF_NewSessionOptions",
        "TF_NewGraph",
        "TF_LoadLibrary",
        "TF_LoadSessionFromSavedModel",
    ):
        getattr(library, name).restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    status = ctypes.c_void_p(library.TF_NewStatus())
    for op_library in op_libraries:
        library.TF_LoadLibrary(op_library.encode(), status)
        if library.TF_GetCode(status):
            return library.TF_Message(status).decode("utf-8", "replace")
    library.TF_LoadSessionFromSavedModel(
        ctypes.c_void_p(library.TF_NewSessionOptions()),
        None,  # run options
        folder.encode(),
        (ctypes.c_char_p * 1)(b"serve"),
        1,
        ctypes.c_void_p(library.TF_NewGraph()),
        None,  # no copy of the MetaGraphDef
        status,
    )
    if library.TF_GetCode(status):
        return library.TF_Message(status).decode("utf-8", "replace") or "no reason"
    return ""


if __name__ == "__main__":
    sys.stdout.write(load(sys.argv[1], sys.argv[2], sys.argv[3:]))

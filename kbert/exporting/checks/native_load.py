"""Loads a SavedModel through TensorFlow's C interface: the C++ loader of a server.

A script of its own, run as `python -P native_load.py FOLDER OP_LIBRARY...`; kbert never
imports it, and it imports no TensorFlow. It prints a line of JSON: {"error": message},
empty where the model loaded; {"missing": what} where there is no such library.
"""

import ctypes
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any


def find_library() -> Path | None:
    """TensorFlow's shared library in its wheel."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    return next(iter(sorted(folder.glob("libtensorflow_cc*"))), None)


def load(library: Path, folder: str, op_libraries: list[str]) -> str:
    """Loads the SavedModel with the tag `serve`; returns the error, if any."""
    tf: Any = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    for name in ("NewStatus", "NewSessionOptions", "NewGraph", "LoadLibrary"):
        getattr(tf, f"TF_{name}").restype = ctypes.c_void_p
    tf.TF_LoadSessionFromSavedModel.restype = ctypes.c_void_p
    tf.TF_Message.restype = ctypes.c_char_p
    status = ctypes.c_void_p(tf.TF_NewStatus())
    for op_library in op_libraries:
        tf.TF_LoadLibrary(os.fsencode(op_library), status)
        if tf.TF_GetCode(status):
            return tf.TF_Message(status).decode("utf-8", "replace")
    tags = (ctypes.c_char_p * 1)(b"serve")
    tf.TF_LoadSessionFromSavedModel(
        ctypes.c_void_p(tf.TF_NewSessionOptions()),
        None,
        os.fsencode(folder),
        tags,
        1,
        ctypes.c_void_p(tf.TF_NewGraph()),
        None,
        status,
    )
    if tf.TF_GetCode(status):
        return tf.TF_Message(status).decode("utf-8", "replace")
    return ""


def main() -> None:
    answers = os.dup(1)
    os.dup2(2, 1)
    library = find_library()
    answer = (
        {"error": load(library, sys.argv[1], sys.argv[2:])}
        if library
        else {"missing": "tensorflow has no libtensorflow_cc"}
    )
    os.write(answers, json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()

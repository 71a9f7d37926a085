"""Loads SavedModels as TensorFlow Serving does and answers requests over pipes.

A script of its own, run by `kbert.exporting.fresh` as `python -P probe.py LIBRARIES`;
kbert never imports it. It stands in for a server: Keras and kbert cannot be imported,
and of tensorflow-text only op libraries are registered, never its Python.

A request is a line of JSON on stdin, its answer a line of JSON on stdout; arrays are
TensorProtos in base64. What TensorFlow logs goes to stderr.

    {"load": folder}                                -> {"seconds": ...}
    {"signature": name, "inputs": {name: tensor}}   -> {"outputs": {name: tensor}}
    {"wordpiece": model, "words": tensor}           -> {"ids": [[...], ...]}

A request that fails is answered by {"error": message}.
"""

import base64
import importlib.abc
import importlib.util
import itertools
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

# The libraries with the ops that every TensorFlow Serving since 2.12 has and kbert's
# tokenizers use; `all` is for looking at exports that use others.
PORTABLE = ("_fast_wordpiece_tokenizer", "_regex_split_ops", "_normalize_ops")
BLOCKED = ("kbert", "keras", "keras_hub", "tensorflow_text", "tf_keras")
# Separates what TensorFlow logs at its own start from what a model makes it log.
MARK = "-- ready --"


class _Blocker(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the blocked packages first, and refuses to import them.

    TensorFlow looks for Keras and goes on without it, hence they are not refused while
    they are only looked for.
    """

    def find_spec(
        self, name: str, path: object, target: object = None
    ) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name.partition(".")[0] in BLOCKED else None

    def create_module(self, spec: ModuleSpec) -> None:
        raise ModuleNotFoundError(f"a server has no Python package {spec.name}")

    def exec_module(self, module: ModuleType) -> None:
        raise AssertionError("create_module raises before")


def op_libraries(which: str) -> list[Path]:
    """The op libraries of tensorflow-text, without importing it.

    Args:
        which: `portable`, or `all`.

    Raises:
        OSError: tensorflow-text or a library is not there.
    """
    spec = importlib.util.find_spec("tensorflow_text")
    if spec is None or not spec.submodule_search_locations:
        raise OSError("tensorflow-text is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "python" / "ops"
    if which == "all":
        return sorted(folder.glob("*.so"))
    files = [folder / f"{name}.so" for name in PORTABLE]
    if missing := [file for file in files if not file.is_file()]:
        raise OSError(f"tensorflow-text has no {missing[0]}")
    return files


class Probe:
    """A TensorFlow with few ops and one SavedModel at a time."""

    def __init__(self, libraries: Sequence[Path]) -> None:
        import tensorflow

        self._tf: Any = tensorflow
        self._ops: dict[str, Any] = {}
        for library in libraries:
            module = tensorflow.load_op_library(str(library))
            self._ops.update(vars(module))
        # Devices are found, and complained of, at the first session.
        self._session: Any = tensorflow.compat.v1.Session(graph=tensorflow.Graph())
        self._signatures: Mapping[str, Any] = {}

    def load(self, folder: str) -> dict[str, Any]:
        start = time.perf_counter()
        v1 = self._tf.compat.v1
        self._session.close()
        self._session = v1.Session(graph=self._tf.Graph())
        loaded = v1.saved_model.loader.load(self._session, ["serve"], folder)
        self._signatures = loaded.signature_def
        return {"seconds": time.perf_counter() - start}

    def call(self, signature: str, inputs: Mapping[str, str]) -> dict[str, Any]:
        if signature not in self._signatures:
            raise ValueError(f"there is no signature {signature!r}")
        definition = self._signatures[signature]
        if unknown := set(inputs) - set(definition.inputs):
            raise ValueError(f"{signature} has no input {', '.join(sorted(unknown))}")
        feeds = {
            definition.inputs[name].name: self._array(text)
            for name, text in inputs.items()
        }
        fetches = {name: info.name for name, info in definition.outputs.items()}
        outputs = self._session.run(fetches, feeds)
        return {"outputs": {name: self._text(item) for name, item in outputs.items()}}

    def wordpiece(self, model: str, words: str) -> dict[str, Any]:
        """The ids that a FastWordpieceTokenizer's model gives each of [W] words."""
        with self._tf.Graph().as_default(), self._tf.compat.v1.Session() as session:
            outputs = self._ops["fast_wordpiece_tokenize_with_offsets"](
                input_values=self._array(words), wp_model=self._array(model)
            )
            ids, splits = session.run((outputs.output_ids, outputs.output_row_splits))
        return {
            "ids": [
                ids[start:end].tolist() for start, end in itertools.pairwise(splits)
            ]
        }

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            if "load" in request:
                return self.load(request["load"])
            if "wordpiece" in request:
                return self.wordpiece(request["wordpiece"], request["words"])
            return self.call(request["signature"], request["inputs"])
        except self._tf.errors.OpError as error:
            return {"error": f"{type(error).__name__}: {_message(error.message)}"}
        except (ValueError, TypeError, KeyError, RuntimeError, OSError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def _array(self, text: str) -> Any:
        from tensorflow.core.framework.tensor_pb2 import TensorProto

        return self._tf.make_ndarray(TensorProto.FromString(base64.b64decode(text)))

    def _text(self, array: Any) -> str:
        proto = self._tf.make_tensor_proto(array)
        return base64.b64encode(proto.SerializeToString()).decode()


def _message(text: str) -> str:
    """An error's message without the names of the nodes that it went through."""
    lines = text.replace("Graph execution error:", "").splitlines()
    nodes = [n for n, line in enumerate(lines) if line.startswith("Node: ")]
    lines = lines[nodes[-1] + 1 :] if nodes else lines
    return " ".join(line for line in lines if line and "[[{{" not in line)


def own_stdout() -> TextIO:
    """stdout for the answers alone: what others write to it goes to stderr."""
    kept = os.dup(1)
    os.dup2(2, 1)
    return open(kept, "w", encoding="utf-8")


def main() -> None:
    answers = own_stdout()
    libraries = op_libraries(sys.argv[1])
    sys.meta_path.insert(0, _Blocker())
    probe = Probe(libraries)
    sys.stderr.write(f"{MARK}\n")
    sys.stderr.flush()
    for line in sys.stdin:
        answers.write(json.dumps(probe.answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

"""Models for tests of what stands in front of them: real signatures, NumPy inside."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from kbert.serving.status import Code, StatusError

Arrays = dict[str, np.ndarray]


def tensor_info(name: str, dtype: Any, shape: Sequence[int]) -> TensorInfo:
    dims = [TensorShapeProto.Dim(size=size) for size in shape]
    return TensorInfo(
        name=f"{name}:0",
        dtype=tf.as_dtype(dtype).as_datatype_enum,
        tensor_shape=TensorShapeProto(dim=dims),
    )


def signature(
    inputs: Mapping[str, tuple[Any, Sequence[int]]],
    outputs: Mapping[str, tuple[Any, Sequence[int]]],
    method: str = "predict",
) -> SignatureDef:
    return SignatureDef(
        inputs={name: tensor_info(name, *spec) for name, spec in inputs.items()},
        outputs={name: tensor_info(name, *spec) for name, spec in outputs.items()},
        method_name=f"tensorflow/serving/{method}",
    )


def strings(*items: str | bytes) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = [item.encode() if isinstance(item, str) else item for item in items]
    return array


@dataclass
class FakeServable:
    """Runs functions from inputs to outputs by the name of their signature."""

    signatures: dict[str, SignatureDef]
    functions: dict[str, Callable[[Arrays], Arrays]]
    name: str = "toy"
    version: int = 1
    timeouts: list[float | None] = field(default_factory=list)

    def run(
        self,
        signature_name: str,
        inputs: Arrays,
        outputs: Sequence[str],
        timeout: float | None,
    ) -> Arrays:
        self.timeouts.append(timeout)
        for name, array in inputs.items():
            dims = self.signatures[signature_name].inputs[name].tensor_shape.dim
            if array.ndim != len(dims):
                raise StatusError(Code.INVALID_ARGUMENT, f"{name}: rank {array.ndim}")
        found = self.functions[signature_name](dict(inputs))
        return {name: found[name] for name in outputs}


def toy_servable(version: int = 1) -> FakeServable:
    """A model with a signature of each kind, cheap enough for thousands of calls."""
    halves = {"x": ("float32", [-1])}, {"y": ("float32", [-1])}
    two_inputs = (
        {"a": ("int32", [-1, -1]), "b": ("string", [-1])},
        {"sums": ("int64", [-1]), "b_bytes": ("string", [-1])},
    )
    classes = {"classes": ("string", [-1, 2]), "scores": ("float32", [-1, 2])}
    signatures = {
        "serving_default": signature(*halves),
        "two": signature(*two_inputs),
        "classify": signature({"inputs": ("string", [-1])}, classes, "classify"),
        "regress": signature(
            {"inputs": ("string", [-1])}, {"outputs": ("float32", [-1, 1])}, "regress"
        ),
        "texts": signature({"text": ("string", [-1])}, {"label": ("string", [-1])}),
        "half": signature({"x": ("float16", [-1])}, {"y": ("float16", [-1])}),
        "to_half": signature({"x": ("float32", [-1])}, {"y": ("float16", [-1])}),
        "init_op": SignatureDef(outputs={"op": TensorInfo(name="NoOp")}),
    }
    functions: dict[str, Callable[[Arrays], Arrays]] = {
        "serving_default": lambda x: {"y": x["x"] / np.float32(2) + np.float32(2)},
        "two": lambda x: {"sums": x["a"].sum(1, dtype=np.int64), "b_bytes": x["b"]},
        "classify": lambda x: {
            "classes": np.array([[b"neg", b"pos"]] * len(x["inputs"]), object),
            "scores": np.array([[0.25, 0.75]] * len(x["inputs"]), np.float32),
        },
        "regress": lambda x: {
            "outputs": np.array([[len(item)] for item in x["inputs"]], np.float32)
        },
        "texts": lambda x: {"label": x["text"]},
        "to_half": lambda x: {"y": x["x"].astype(np.float16)},
    }
    return FakeServable(signatures, functions, version=version)


@dataclass(frozen=True)
class FakeState:
    version: int
    state: str
    code: int = 0
    message: str = ""


class FakeManager:
    """Serves one model in versions, of which 2 has the label `stable`.

    Args:
        block: until it is set, no prediction ends.
    """

    def __init__(self, block: threading.Event | None = None) -> None:
        self.servables = {version: toy_servable(version) for version in (1, 2)}
        self.begun = threading.Semaphore(0)
        self.num_begun = 0
        self._block = block

    def model_names(self) -> list[str]:
        return ["toy"]

    def states(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> list[FakeState]:
        if name != "toy":
            raise StatusError(
                Code.NOT_FOUND, f"Could not find any versions of model {name}"
            )
        states = [
            FakeState(1, "END", 5, "gone"),
            FakeState(2, "AVAILABLE"),
        ]
        wanted = self._version(name, version, label)
        return [state for state in states if wanted in (None, state.version)]

    @contextlib.contextmanager
    def use(
        self, name: str, version: int | None = None, label: str | None = None
    ) -> Iterator[FakeServable]:
        version = self._version(name, version, label)
        if name != "toy" or version not in (None, *self.servables):
            which = (
                f"Latest({name})" if version is None else f"Specific({name}, {version})"
            )
            raise StatusError(
                Code.NOT_FOUND, f"Servable not found for request: {which}"
            )
        self.num_begun += 1
        self.begun.release()
        if self._block is not None and not self._block.wait(30):
            raise TimeoutError("the test never let the prediction go on")
        yield self.servables[version or 2]

    def _version(self, name: str, version: int | None, label: str | None) -> int | None:
        if label is None:
            return version
        if label != "stable":
            raise StatusError(
                Code.INVALID_ARGUMENT, f"Unrecognized servable version label: {label}"
            )
        return 2


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait for what another thread does; fails when it never happens."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)

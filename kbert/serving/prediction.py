"""What a request means, whether it came over REST or gRPC.

Checks and wordings are those of TensorFlow Serving (signature_checks.py). Its flag
`enable_signature_method_name_check` is off by default, and so the method name of a
signature says nothing here: its inputs and outputs do.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kbert.serving import signature_checks
from kbert.serving.metrics import Metrics
from kbert.serving.status import Code, StatusError

if TYPE_CHECKING:
    from kbert.serving.servable import Servable

DEFAULT_SIGNATURE = "serving_default"


def signature_def(servable: "Servable", name: str, rest: bool) -> Any:
    """Return the SignatureDef of a :predict, "" meaning the default one.

    Raises:
        StatusError: in REST's words (INVALID_ARGUMENT) or in gRPC's
            (FAILED_PRECONDITION) where the model has none of that name.
    """
    name = name or DEFAULT_SIGNATURE
    found = servable.signatures.get(name)
    if found is not None:
        return found
    if rest:
        raise StatusError(
            Code.INVALID_ARGUMENT,
            f'Serving signature name: "{name}" not found in signature def',
        )
    raise StatusError(
        Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.'
    )


def predict(
    servable: "Servable",
    signature_name: str,
    inputs: Mapping[str, np.ndarray],
    output_filter: Sequence[str],
    timeout: float | None,
    metrics: Metrics | None = None,
) -> dict[str, np.ndarray]:
    """Run a signature.

    Args:
        signature_name: "" for the default one.
        output_filter: names of the outputs wanted; none for all of them.
        timeout: seconds; None for as long as it takes.
        metrics: where to count the time it took.

    Raises:
        StatusError: INVALID_ARGUMENT, FAILED_PRECONDITION, or what the run gives.
    """
    signature = signature_def(servable, signature_name, rest=False)
    complete = signature_checks.complete_inputs(signature, inputs)
    outputs = signature_checks.chosen_outputs(signature, output_filter)
    with _timed(metrics, servable.name, "Predict"):
        return servable.run(
            signature_name or DEFAULT_SIGNATURE, complete, outputs, timeout
        )


def classify(
    servable: "Servable",
    signature_name: str,
    examples: Sequence[bytes],
    timeout: float | None,
    metrics: Metrics | None = None,
) -> list[list[tuple[str, float]]]:
    """Return labels with their scores for each serialized tf.train.Example.

    A signature without `classes` gives empty labels, one without `scores` zeros.

    Raises:
        StatusError: INVALID_ARGUMENT where the signature does not classify, or what
            the run gives.
    """
    signature = _signature_of_examples(servable, signature_name)
    outputs = signature_checks.classification_outputs(signature)
    batch = _batch(servable, examples, metrics)
    with _timed(metrics, servable.name, "Classify"):
        found = servable.run(
            signature_name or DEFAULT_SIGNATURE, {"inputs": batch}, outputs, timeout
        )
    signature_checks.check_classification(found, len(examples))
    shape = next(iter(found.values())).shape
    labels = found.get("classes", np.full(shape, b"", object)).tolist()
    scores = found.get("scores", np.zeros(shape, np.float32)).tolist()
    return [
        [
            (label.decode("utf-8", "replace"), score)
            for label, score in zip(*row, strict=True)
        ]
        for row in zip(labels, scores, strict=True)
    ]


def regress(
    servable: "Servable",
    signature_name: str,
    examples: Sequence[bytes],
    timeout: float | None,
    metrics: Metrics | None = None,
) -> list[float]:
    """Return a number for each serialized tf.train.Example.

    Raises:
        StatusError: INVALID_ARGUMENT where the signature does not regress, or what
            the run gives.
    """
    signature = _signature_of_examples(servable, signature_name)
    signature_checks.check_regression_signature(signature)
    batch = _batch(servable, examples, metrics)
    with _timed(metrics, servable.name, "Regress"):
        found = servable.run(
            signature_name or DEFAULT_SIGNATURE, {"inputs": batch}, ["outputs"], timeout
        )
    signature_checks.check_regression(found["outputs"], len(examples))
    return found["outputs"].ravel().tolist()


def _signature_of_examples(servable: "Servable", name: str) -> Any:
    name = name or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        raise StatusError(
            Code.INVALID_ARGUMENT, f"No signature was found with the name: {name}"
        )
    return servable.signatures[name]


def _batch(
    servable: "Servable", examples: Sequence[bytes], metrics: Metrics | None
) -> np.ndarray:
    if not examples:
        raise StatusError(Code.INVALID_ARGUMENT, "Input is empty.")
    if metrics is not None:
        metrics.observe_examples(servable.name, len(examples))
    batch = np.empty(len(examples), object)
    batch[:] = examples
    return batch


@contextlib.contextmanager
def _timed(metrics: Metrics | None, model: str, api: str) -> Iterator[None]:
    """Count the time of the block, where it ends well."""
    start = time.perf_counter()
    yield
    if metrics is not None:
        metrics.observe_runtime(model, api, time.perf_counter() - start)

"""What each REST call answers: bytes in, bytes out, blocking, from any thread."""

import time
from typing import TYPE_CHECKING, Any

from kbert.serving import json_requests, json_responses, prediction
from kbert.serving.json_parsing import parse_object
from kbert.serving.metrics import Metrics
from kbert.serving.rest_body import unpack
from kbert.serving.rest_routes import Route
from kbert.serving.status import Code, StatusError

if TYPE_CHECKING:
    from kbert.serving.manager import ModelManager


class RestCalls:
    """The calls of TensorFlow Serving's REST interface on the models of a manager.

    Args:
        manager: the models.
        metrics: counts examples and the time in the session.
        max_body_bytes: largest body once it is unpacked.
    """

    def __init__(
        self, manager: "ModelManager", metrics: Metrics, max_body_bytes: int
    ) -> None:
        self._manager = manager
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes

    def look(self, route: Route) -> bytes:
        """Answer a status or a metadata request.

        Raises:
            StatusError: NOT_FOUND or INVALID_ARGUMENT.
        """
        which = (route.model, route.version, route.label)
        if route.call == "status":
            return json_responses.status_response(self._manager.states(*which))
        with self._manager.use(*which) as servable:
            return json_responses.metadata_response(
                servable.name, servable.version, servable.signatures
            )

    def predict(
        self, route: Route, body: bytes, encoding: str, deadline: float
    ) -> bytes:
        """Answer :predict, :classify or :regress.

        Args:
            body: as it was sent.
            encoding: its Content-Encoding, "" for none.
            deadline: of time.monotonic.

        Raises:
            StatusError: whatever is wrong with the request or its run.
            BodyError: the body cannot be unpacked.
        """
        document = parse_object(unpack(body, encoding, self._max_body_bytes))
        signature = json_requests.signature_name(document)
        if route.call == "predict":
            return self._predict(route, document, signature, deadline)
        examples = json_requests.read_examples(document)
        with self._use(route) as servable:
            run = (servable, signature, examples, _seconds_left(deadline))
            if route.call == "regress":
                return json_responses.regress_response(
                    prediction.regress(*run, self._metrics)
                )
            classes = prediction.classify(*run, self._metrics)
        return json_responses.classify_response(classes)

    def _predict(
        self, route: Route, document: dict[str, Any], signature: str, deadline: float
    ) -> bytes:
        with self._use(route) as servable:
            found = prediction.signature_def(servable, signature, rest=True)
            data_types = {name: info.dtype for name, info in found.inputs.items()}
            inputs, in_rows = json_requests.predict_inputs(
                document, data_types, signature
            )
            outputs = prediction.predict(
                servable,
                signature,
                inputs,
                (),
                _seconds_left(deadline),
                self._metrics,
            )
        return json_responses.predict_response(outputs, in_rows)

    def _use(self, route: Route) -> Any:
        return self._manager.use(route.model, route.version, route.label)


def _seconds_left(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise StatusError(
            Code.DEADLINE_EXCEEDED, "The request waited longer than its time allows"
        )
    return seconds

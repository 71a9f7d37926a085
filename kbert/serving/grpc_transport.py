"""Predictions over TF Serving's gRPC API; importing this imports TensorFlow."""

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from kbert.errors import ServingError
from kbert.serving.addresses import GRPC_FORM, Address
from kbert.serving.retries import TooLargeError, TransientError
from kbert.serving.transport import Inputs, no_model, no_server

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # What is sent again, and when, is decided in one place only.
    ("grpc.enable_retries", 0),
    # A server that restarts is found again soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A machine that is gone without a word is noticed.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # As over REST: no proxy of the environment between client and server.
    ("grpc.enable_http_proxy", 0),
)
# What gRPC says of an answer that is none of HTTP/2.
_SPEAKS_HTTP_1 = re.compile("http1.x|parsing HTTP/2", re.IGNORECASE)


class GrpcTransport:
    """See `kbert.serving.transport.Transport`.

    Args:
        address: a grpc or grpcs address.
        ca_cert: a file of certificates to trust, in place of gRPC's own.

    Raises:
        ServingError: `ca_cert` cannot be read.
    """

    def __init__(self, address: Address, *, ca_cert: str | None) -> None:
        self._address = address
        if address.is_secure:
            credentials = grpc.ssl_channel_credentials(_read(ca_cert))
            channel = grpc.secure_channel(address.netloc, credentials, _OPTIONS)
        else:
            channel = grpc.insecure_channel(address.netloc, _OPTIONS)
        self._channel = channel
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)

    def metadata(self, timeout: float) -> dict[str, Any]:
        """See `Transport.metadata`."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=self._spec(), metadata_field=["signature_def"]
        )
        response = self._ask(self._predictions.GetModelMetadata, request, timeout)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return {
            "model_spec": _as_dict(response.model_spec),
            "metadata": {"signature_def": _as_dict(signatures)},
        }

    def status(self, timeout: float) -> list[dict[str, Any]]:
        """See `Transport.status`."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=self._spec())
        response = self._ask(self._models.GetModelStatus, request, timeout)
        return [_as_dict(version) for version in response.model_version_status]

    def predict(
        self, signature_name: str, inputs: Inputs, timeout: float
    ) -> dict[str, Any]:
        """See `Transport.predict`."""
        request = predict_pb2.PredictRequest(model_spec=self._spec(signature_name))
        for key, texts in inputs.items():
            tensor = request.inputs[key]
            tensor.dtype = tf.string.as_datatype_enum
            tensor.tensor_shape.dim.add(size=len(texts))
            tensor.string_val.extend(texts)
        response = self._ask(self._predictions.Predict, request, timeout)
        return {key: _as_list(tensor) for key, tensor in response.outputs.items()}

    def class_names(
        self, signature_name: str, example: Mapping[str, bytes], timeout: float
    ) -> list[str]:
        """See `Transport.class_names`."""
        request = classification_pb2.ClassificationRequest(
            model_spec=self._spec(signature_name)
        )
        features = request.input.example_list.examples.add().features.feature
        for key, text in example.items():
            features[key].bytes_list.value.append(text)
        response = self._ask(self._predictions.Classify, request, timeout)
        (result,) = response.result.classifications
        return [item.label for item in result.classes]

    def close(self) -> None:
        """See `Transport.close`."""
        self._channel.close()

    def _spec(self, signature_name: str = "") -> model_pb2.ModelSpec:
        address = self._address
        spec = model_pb2.ModelSpec(name=address.model, signature_name=signature_name)
        if address.version is not None:
            spec.version.value = address.version
        if address.label is not None:
            spec.version_label = address.label
        return spec

    def _ask(self, method: Callable[..., Any], request: Message, timeout: float) -> Any:
        start = time.monotonic()
        try:
            return method(request, timeout=max(timeout, 0.001))
        except grpc.RpcError as error:
            code, said = error.code(), error.details() or ""
            late = time.monotonic() - start > timeout - 0.02
            if code == grpc.StatusCode.DEADLINE_EXCEEDED and late:
                # The client's own deadline; a server's is a refusal.
                reason = f"{self._address.origin} did not answer in time."
                raise TransientError(reason, timed_out=True) from error
            raise self._failure(code, said) from error
        except ValueError as error:
            # The channel was closed meanwhile.
            raise TransientError(
                f"{self._address.origin} did not answer: {error}."
            ) from None

    def _failure(self, code: grpc.StatusCode, said: str) -> Exception:
        origin, lower = self._address.origin, said.lower()
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in lower:
            return TooLargeError(f"{origin} takes no request so large: {said}.")
        if _SPEAKS_HTTP_1.search(said) or code == grpc.StatusCode.UNIMPLEMENTED:
            return ServingError(
                f"What answers at {origin} is no TF Serving over gRPC ({said}). Its "
                f"gRPC port is 8500 by default, 8501 is that of REST: {GRPC_FORM}."
            )
        if code == grpc.StatusCode.UNAVAILABLE:
            if "failed to connect" in lower or "resolution" in lower:
                # What failed first stands last.
                reason = said.rpartition(": ")[2]
                return TransientError(
                    no_server(self._address, reason), unreachable=True
                )
            return TransientError(f"{origin} is busy or not ready: {said}.")
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return TransientError(f"{origin} is busy: {said}.")
        if code == grpc.StatusCode.CANCELLED:
            return TransientError(f"{origin} did not answer: {said}.")
        if code == grpc.StatusCode.NOT_FOUND:
            return ServingError(no_model(self._address, said))
        return ServingError(
            f"{self._address} refused the request ({code.name}): {said}"
        )


def _as_dict(message: Message) -> dict[str, Any]:
    """A message as REST gives it."""
    return MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )


def _as_list(tensor: Any) -> list[Any]:
    array = tf.make_ndarray(tensor)
    if array.dtype == object:
        return [value.decode("utf-8", "replace") for value in array.ravel()]
    return array.tolist()


def _read(ca_cert: str | None) -> bytes | None:
    if ca_cert is None:
        return None
    try:
        return Path(ca_cert).read_bytes()
    except OSError as error:
        raise ServingError(
            "ca_cert must be a file of certificates in PEM. Received: "
            f"{ca_cert}: {error.strerror}."
        ) from None

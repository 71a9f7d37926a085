"""One gRPC call: bytes in, bytes or a status out, within the gate and the deadline."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf.message import DecodeError, EncodeError

from kbert.serving.gate import Gate
from kbert.serving.metrics import Metrics
from kbert.serving.status import Code, StatusError

# TensorFlow Serving cuts messages there; gRPC's headers have 8 KiB in all.
MAX_MESSAGE_BYTES = 1024
_TRUNCATED = "...TRUNCATED"
# gRPC gives a call without a deadline one in the far future.
_NO_DEADLINE_SECONDS = 10 * 365 * 24 * 3600.0
_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Method(Protocol):
    """What answers a call; it raises StatusError for any other end."""

    def __call__(self, request: Any, timeout: float | None) -> Any: ...


@dataclass(frozen=True)
class Call:
    """A method of a service.

    Attributes:
        request_class: the message that it takes.
        method: answers it.
        model_of: the model's name in a request, for the metrics; None for calls that
            are not counted.
        only_looks: whether it neither computes nor waits. Such a call takes no place
            among the requests that may be pending, and is answered under any load.
    """

    request_class: Any
    method: Method
    model_of: Callable[[Any], str] | None = None
    only_looks: bool = False


def service_handler(
    service: str,
    calls: dict[str, Call],
    gate: Gate,
    metrics: Metrics,
    looking: ThreadPoolExecutor,
) -> grpc.GenericRpcHandler:
    """The handler of a service, by the names of its methods.

    Calls that only look run in the threads `looking`, the others in the server's.

    Messages are parsed here and not by gRPC, which calls bytes that are no message an
    INTERNAL error.
    """
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            _Answering(name, call, gate, metrics, looking if call.only_looks else None)
        )
        for name, call in calls.items()
    }
    return grpc.method_handlers_generic_handler(service, handlers)


def truncate(message: str) -> str:
    """A message of at most 1,024 bytes, and a mark where it was longer."""
    encoded = message.encode("utf-8", "replace")
    if len(encoded) <= MAX_MESSAGE_BYTES:
        return encoded.decode("utf-8")
    return encoded[:MAX_MESSAGE_BYTES].decode("utf-8", "ignore") + _TRUNCATED


@dataclass(frozen=True)
class _Answering:
    name: str
    call: Call
    gate: Gate
    metrics: Metrics
    # gRPC looks for this name; None is its server's own pool.
    experimental_thread_pool: ThreadPoolExecutor | None

    def __call__(self, payload: bytes, context: grpc.ServicerContext) -> bytes:
        start = time.perf_counter()
        code, model = Code.UNKNOWN, ""
        try:
            request = self._parse(payload)
            if self.call.model_of is not None:
                model = self.call.model_of(request)
            response = self._answer(request, context)
            code = Code.OK
            return response
        except StatusError as error:
            code = error.code
            _abort(context, error)
        finally:
            if self.call.model_of is not None:
                seconds = time.perf_counter() - start
                self.metrics.observe(model, self.name, "GRPC", code, seconds)

    def _parse(self, payload: bytes) -> Any:
        try:
            return self.call.request_class.FromString(payload)
        except DecodeError:
            name = self.call.request_class.DESCRIPTOR.full_name
            raise StatusError(
                Code.INVALID_ARGUMENT, f"The request is no valid {name}"
            ) from None

    def _answer(self, request: Any, context: grpc.ServicerContext) -> bytes:
        if self.call.only_looks:
            return _serialize(self.call.method(request, _seconds_left(context)))
        with self.gate.enter():
            return _serialize(self.call.method(request, _seconds_left(context)))


def _seconds_left(context: grpc.ServicerContext) -> float | None:
    seconds = context.time_remaining()
    if seconds is None or seconds > _NO_DEADLINE_SECONDS:
        return None
    if seconds <= 0:
        raise StatusError(Code.DEADLINE_EXCEEDED, "Deadline exceeded while waiting")
    return seconds


def _serialize(response: Any) -> bytes:
    try:
        return response.SerializeToString()
    except (EncodeError, ValueError):
        raise StatusError(
            Code.RESOURCE_EXHAUSTED, "The answer is too large for one message"
        ) from None


def _abort(context: grpc.ServicerContext, error: StatusError) -> NoReturn:
    context.abort(_STATUS_CODES[int(error.code)], truncate(error.message))
    raise AssertionError("abort raises")

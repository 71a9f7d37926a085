"""A client of TF Serving for the models that `kbert export` writes."""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from types import TracebackType
from typing import Any, Self, TypeVar

from kbert.data.values import to_bytes
from kbert.errors import ServingError
from kbert.serving.addresses import Address, parse_url
from kbert.serving.answers import (
    Text,
    build_answers,
    check_outputs,
    check_text,
    fit_together,
    texts_by_input,
)
from kbert.serving.latencies import Latencies
from kbert.serving.rest_transport import RestTransport
from kbert.serving.retries import Retrier, Retries, TooLargeError
from kbert.serving.text_signatures import (
    CLASSIFY,
    TextSignature,
    read_text_signature,
)
from kbert.serving.transport import Outputs, Transport

Answer = TypeVar("Answer")

_DEFAULT_RETRIES = Retries()


class Client:
    """Asks a model in TF Serving, or in `kbert serve`, about texts.

    Over REST nothing of TensorFlow is imported. What may be sent again without harm
    is sent again: when a connection fails or the server is busy (429, 503,
    UNAVAILABLE, RESOURCE_EXHAUSTED), until the timeout, so that a server that
    restarts in the meantime is not noticed. A refusal is final. It may be used from
    several threads.

    Args:
        url: `http://HOST:8501/v1/models/NAME`, with `/versions/N` or
            `/labels/LABEL` behind it where it is not to be the newest version;
            https:// for TLS. Over gRPC `grpc://HOST:8500/NAME`, grpcs:// for TLS.
        signature_name: the signature to ask.
        timeout: seconds for a request, its repetitions included.
        batch_size: texts a request. A request that the server finds too large is
            halved.
        connections: requests at the same time.
        retries: how long to wait before a request is sent again; None for never.
        ca_cert: a file of certificates in PEM to trust, in place of the system's.

    Attributes:
        url: the URL, in full.
        latencies: how long the requests with texts took: count, p50, p95, p99.

    Raises:
        ServingError: the URL is none, `ca_cert` cannot be read, or gRPC is not
            installed. Nothing is sent yet.

    Example:
        from kbert.serving import Client

        with Client("http://localhost:8501/v1/models/imdb") as client:
            client.predict(["A wonderful film."])[0]["label"]
            for answer in client.answers(line.rstrip() for line in sys.stdin):
                print(answer["score"])
            print(client.latencies.summary())
    """

    def __init__(
        self,
        url: str,
        *,
        signature_name: str = "serving_default",
        timeout: float = 60.0,
        batch_size: int = 32,
        connections: int = 4,
        retries: Retries | None = _DEFAULT_RETRIES,
        ca_cert: str | None = None,
    ) -> None:
        for name, count in (("batch_size", batch_size), ("connections", connections)):
            if count < 1:
                raise ServingError(f"`{name}` must be at least 1. Received: {count}")
        if not (timeout > 0 and math.isfinite(timeout)):
            raise ServingError(f"`timeout` must be above 0 s. Received: {timeout}")
        address = parse_url(url)
        self.url = str(address)
        self.latencies = Latencies()
        self._signature_name = signature_name
        self._batch_size = batch_size
        self._connections = connections
        self._transport = _open_transport(address, connections, ca_cert)
        self._retrier = Retrier(timeout, retries)
        self._threads = ThreadPoolExecutor(connections, "kbert-client")
        self._lock = threading.Lock()
        self._signature: TextSignature | None = None
        self._class_names: list[str] | None = None

    def __repr__(self) -> str:
        return f"kbert.serving.Client({self.url!r})"

    @property
    def is_paired(self) -> bool:
        """Whether the model takes pairs of texts.

        Raises:
            ServingError: as `predict`.
        """
        return self._text_signature().is_paired

    def predict(self, texts: Iterable[Text]) -> list[dict[str, Any]]:
        """Answers texts in order, as `kbert.Run.predict` does.

        Args:
            texts: strings, or pairs of strings for a model of pairs.

        Returns:
            For each text `text`, for pairs `text_pair`, `label`, `score` and
            `probabilities` by label. A model without the signature `classify`,
            which kbert always exports, does not tell its labels: `probabilities`
            is then a plain list.

        Raises:
            ServingError: the server cannot be reached, has no such model, refuses
                the texts, or did not answer in time.
            TypeError: a single string instead of several, or what is no text.
        """
        if isinstance(texts, str):
            raise TypeError("`texts` must be several texts: predict(['...']).")
        return list(self.answers(texts))

    def answers(self, texts: Iterable[Text]) -> Iterator[dict[str, Any]]:
        """Answers texts in order as a stream; see `predict`.

        Texts are read ahead for one request more than are sent at the same time.
        """
        pending: deque[Future[list[dict[str, Any]]]] = deque()
        try:
            for batch in self._batches(texts):
                # Here and not in a thread, so that it fails once.
                self._text_signature()
                pending.append(self._submit(batch))
                while pending and (
                    pending[0].done() or len(pending) > self._connections
                ):
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def metadata(self) -> dict[str, Any]:
        """The model's metadata as the server gives them: its signatures and version.

        Raises:
            ServingError: the server cannot be reached, or has no such model.
        """
        return self._retrier.call(self._transport.metadata)

    def status(self) -> list[dict[str, Any]]:
        """Each version: `version`, `state` ("AVAILABLE") and `status`.

        Raises:
            ServingError: the server cannot be reached, or has no such model.
        """
        return self._retrier.call(self._transport.status)

    def close(self) -> None:
        """Ends the requests under way and closes the connections."""
        self._retrier.close()
        self._transport.close()
        # What still waits for its turn is refused by the retrier.
        self._threads.shutdown(wait=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _batches(self, texts: Iterable[Text]) -> Iterator[list[Text]]:
        remaining = iter(texts)
        start = 0
        while batch := list(islice(remaining, self._batch_size)):
            for number, text in enumerate(batch, start):
                check_text(text, number)
            start += len(batch)
            yield batch

    def _submit(self, batch: list[Text]) -> Future[list[dict[str, Any]]]:
        try:
            return self._threads.submit(self._answer, batch)
        except RuntimeError:
            raise ServingError("This client has been closed.") from None

    def _answer(self, batch: list[Text]) -> list[dict[str, Any]]:
        """Answers a batch with one request, or with several if it is too large."""
        signature = self._text_signature()
        texts = texts_by_input(batch, signature, self.url)
        try:
            outputs, class_names = self._ask(texts, signature)
        except TooLargeError as error:
            if len(batch) == 1:
                raise ServingError(f"{error} It holds a single text.") from error
            half = len(batch) // 2
            return self._answer(batch[:half]) + self._answer(batch[half:])
        return build_answers(
            texts, outputs, class_names, is_float32=signature.is_float32
        )

    def _ask(
        self, texts: dict[str, list[str]], signature: TextSignature
    ) -> tuple[Outputs, list[str] | None]:
        """The outputs for texts, and the classes that belong to them.

        Of a server that changes to a version with other classes, the outputs may be
        of one version and the classes of the other: both are then asked for again.
        """
        inputs = {key: list(map(to_bytes, column)) for key, column in texts.items()}
        send = partial(self._transport.predict, signature.name, inputs)
        for _ in range(3):
            outputs = check_outputs(self._timed(send), len(inputs["text"]), self.url)
            if not signature.names_classes:
                return outputs, None
            for known in (self._class_names, None):
                names = known or self._ask_class_names(signature)
                if fit_together(outputs, names):
                    return outputs, names
        raise ServingError(
            f"{self.url}: the labels, the probabilities and the classes that the "
            f'signature "{CLASSIFY}" gives ({", ".join(names)}) do not fit together.'
        )

    def _timed(self, send: Callable[[float], Answer]) -> Answer:
        start = time.monotonic()
        answer = self._retrier.call(send)
        self.latencies.add(start, time.monotonic())
        return answer

    def _text_signature(self) -> TextSignature:
        """What the model takes; asked once, and with it the classes."""
        with self._lock:
            if self._signature is None:
                signature = read_text_signature(
                    self.metadata(), self._signature_name, self.url
                )
                if signature.names_classes:
                    self._ask_class_names(signature)
                self._signature = signature
            return self._signature

    def _ask_class_names(self, signature: TextSignature) -> list[str]:
        example = {"text": b"a"} | ({"text_pair": b"a"} if signature.is_paired else {})
        send = partial(self._transport.class_names, CLASSIFY, example)
        self._class_names = self._retrier.call(send)
        return self._class_names


def _open_transport(
    address: Address, connections: int, ca_cert: str | None
) -> Transport:
    if not address.is_grpc:
        return RestTransport(address, connections=connections, ca_cert=ca_cert)
    try:
        # Only here: this imports TensorFlow, which REST does not need.
        from kbert.serving.grpc_transport import GrpcTransport
    except ImportError as error:
        raise ServingError(
            f"{address}: gRPC needs the packages grpcio and tensorflow-serving-api: "
            f"pip install grpcio tensorflow-serving-api ({error}). REST needs neither."
        ) from error
    return GrpcTransport(address, ca_cert=ca_cert)

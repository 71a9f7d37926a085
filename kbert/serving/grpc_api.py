"""The gRPC server: TensorFlow Serving's services and gRPC's own health service."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from kbert.errors import ServingError
from kbert.serving import grpc_models, grpc_prediction
from kbert.serving.gate import Gate
from kbert.serving.grpc_calls import service_handler
from kbert.serving.manager import ModelManager
from kbert.serving.metrics import Metrics
from kbert.serving.ports import join_address, port_error

# Bare names, as TensorFlow Serving's; the empty one stands for the whole server.
HEALTH_SERVICES = ("", "ModelService", "PredictionService")
# Calls that only look, status and health, are let in beyond those that are pending.
_LOOKS = 64
_LOOKING_THREADS = 2


@dataclass(frozen=True)
class GrpcOptions:
    """How gRPC answers.

    Attributes:
        num_threads: how many calls are worked on at a time.
        max_body_bytes: largest message that is read.
        max_pending_requests: how many calls may be worked on or wait.
        channel_arguments: gRPC's own settings, by name; they win over kbert's.
        health: whether the health service is there.
        tensor_content: whether outputs travel as bytes.
    """

    num_threads: int
    max_body_bytes: int
    max_pending_requests: int
    channel_arguments: dict[str, int | str] = field(default_factory=dict)
    health: bool = True
    tensor_content: bool = False


class GrpcServer:
    """A gRPC server over the models of a manager; it answers from `start` on.

    Args:
        manager: the models.
        metrics: counts the calls.
        gate: bounds those that are pending, together with REST's.
        options: how it answers.
    """

    def __init__(
        self, manager: ModelManager, metrics: Metrics, gate: Gate, options: GrpcOptions
    ) -> None:
        self._pool = ThreadPoolExecutor(options.num_threads, "grpc")
        self._looking = ThreadPoolExecutor(_LOOKING_THREADS, "grpc-status")
        self._server = grpc.server(
            self._pool,
            options=list(_channel_arguments(options).items()),
            maximum_concurrent_rpcs=options.max_pending_requests + _LOOKS,
        )
        prediction = grpc_prediction.PredictionService(
            manager, metrics, as_content=options.tensor_content
        )
        services = {
            grpc_prediction.SERVICE: prediction.calls(),
            grpc_models.SERVICE: grpc_models.ModelService(manager).calls(),
        }
        self._server.add_generic_rpc_handlers(
            [
                service_handler(name, calls, gate, metrics, self._looking)
                for name, calls in services.items()
            ]
        )
        self._health = _health_servicer(self._looking)
        if options.health:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    def listen(self, host: str, port: int, ssl_config: Any = None) -> None:
        """Adds an address; `ssl_config` is an SSLConfig message, None for no TLS.

        Raises:
            ServingError: the port cannot be listened on.
        """
        address = join_address(host, port)
        try:
            if ssl_config is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, _credentials(ssl_config))
        except RuntimeError:
            raise port_error(host, port, "port") from None

    def listen_on_socket(self, path: Path) -> None:
        """Adds a Unix socket.

        Raises:
            ServingError: it cannot be made.
        """
        try:
            self._server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise ServingError(
                f"--grpc_socket_path {path} cannot be made: {error}"
            ) from None

    def start(self) -> None:
        """Starts to answer, and says that it serves."""
        for name in HEALTH_SERVICES:
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._server.start()

    def announce_stop(self) -> None:
        """Health says NOT_SERVING from now on; everything is still answered."""
        self._health.enter_graceful_shutdown()

    def stop(self, seconds: float) -> None:
        """Refuses new calls, and answers those that were accepted.

        Args:
            seconds: how long that may take; what is left then is cancelled.
        """
        self._server.stop(seconds).wait()
        for pool in (self._pool, self._looking):
            pool.shutdown(wait=False, cancel_futures=True)


def _health_servicer(looking: ThreadPoolExecutor) -> HealthServicer:
    class Health(HealthServicer):
        def Check(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
            return super().Check(request, context)

    # gRPC looks there for another pool than its server's.
    Health.Check.experimental_thread_pool = looking  # type: ignore[attr-defined]
    return Health()


def _channel_arguments(options: GrpcOptions) -> dict[str, int | str]:
    return {
        "grpc.max_receive_message_length": options.max_body_bytes,
        "grpc.max_send_message_length": -1,
        # Two servers must not share a port, each with half of the calls.
        "grpc.so_reuseport": 0,
        **options.channel_arguments,
    }


def _credentials(ssl_config: Any) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(ssl_config.server_key.encode(), ssl_config.server_cert.encode())],
        root_certificates=ssl_config.custom_ca.encode() or None,
        require_client_auth=ssl_config.client_verify,
    )

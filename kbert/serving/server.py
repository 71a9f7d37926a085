"""The development server: models, REST and gRPC put together, from start to end."""

import contextlib
import functools
import logging
import queue
import re
import signal
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

from kbert.errors import ServingError
from kbert.serving import ports
from kbert.serving.config_polling import ConfigPoller
from kbert.serving.gate import Gate
from kbert.serving.greeting import greeting
from kbert.serving.grpc_api import GrpcOptions, GrpcServer
from kbert.serving.manager import ManagerOptions, ModelManager
from kbert.serving.memory import freeze_imports
from kbert.serving.metrics import Metrics
from kbert.serving.model_config import read_model_config, single_model_config
from kbert.serving.options import ServerOptions, parse_channel_arguments
from kbert.serving.page import make_page
from kbert.serving.prepared import Prepared
from kbert.serving.request_limits import RequestLimits
from kbert.serving.rest import RestApp, RestOptions
from kbert.serving.rest_server import RestServer
from kbert.serving.servable import LoadOptions
from kbert.serving.status import Code, StatusError

logger = logging.getLogger(__name__)

# A little less than what Kubernetes gives a container between SIGTERM and SIGKILL.
GRACE_SECONDS = 25
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A new model that is not there by then is named in the log, and waited for again.
_RELOAD_SECONDS = 60
# Where in the graph an error arose, as TensorFlow writes it.
_NODE = re.compile(r"\s*\[\[\{\{node .*?\}\}\]\]")
_WAKE_SECONDS = 0.5
# In place of a signal's number: REST's thread has ended on its own.
_BROKEN = 0


def serve(prepared: Prepared) -> int:
    """Loads the models, answers until a signal, then ends what was begun.

    Ports open when every model is available. A first SIGINT or SIGTERM stops new
    requests and answers those that were accepted; a second one ends the process at
    once. While models are loaded a signal does what it did before the call.
    Called in the main thread, which is where signals arrive.

    Returns:
        The number of the signal.

    Raises:
        ServingError: a model cannot be loaded, or a port has been taken meanwhile.
        ConfigError: the model config file is none.
    """
    options = prepared.options
    stopping: queue.SimpleQueue[int] = queue.SimpleQueue()
    with contextlib.ExitStack() as ending:
        ending.callback(_set_handlers, _handlers())
        if prepared.rest_socket is not None:
            ending.enter_context(prepared.rest_socket)
        freeze_imports()
        manager = ModelManager(_manager_options(options, prepared.batching))
        poller = _config_poller(manager, options)
        if poller is not None:
            ending.callback(poller.join)
        # By then all requests are answered or given up.
        ending.callback(manager.close, 0.0)
        try:
            config = _load_models(manager, options)
        except KeyboardInterrupt:
            logger.info("Stopping when what is being loaded is loaded")
            _set_handlers(dict.fromkeys(_handlers(), signal.SIG_DFL))
            raise
        _send_signals_to(stopping)
        servers = _Servers(prepared, manager, stopping)
        ending.callback(servers.stop)
        # A request that waits for a config to be loaded would be waited for.
        ending.callback(manager.announce_close)
        servers.start()
        if poller is not None:
            ending.callback(poller.announce_stop)
            poller.start(config)
        for line in greeting(options, manager):
            logger.info("%s", line)
        number = _wait_for(stopping)
        logger.info("Stopping; what was accepted is answered first")
    if number == _BROKEN:
        raise ServingError("The REST server ended unexpectedly; see the log above.")
    return number


class _Servers:
    """REST and gRPC, as far as the options ask for them."""

    def __init__(
        self,
        prepared: Prepared,
        manager: ModelManager,
        stopping: "queue.SimpleQueue[int]",
    ) -> None:
        metrics = Metrics()
        self._gate = gate = Gate(prepared.options.max_pending_requests)
        self._options = prepared.options
        self._ssl_config = prepared.ssl_config
        self._grpc = self._rest = self._app = None
        if self._options.port or self._options.grpc_socket_path:
            options = _grpc_options(self._options)
            self._grpc = GrpcServer(manager, metrics, gate, options)
        if prepared.rest_socket is not None:
            self._app = RestApp(
                manager,
                _rest_options(prepared),
                metrics,
                gate,
                page=make_page(manager.model_names),
            )
            self._rest = RestServer(
                self._app,
                prepared.rest_socket,
                GRACE_SECONDS,
                on_end=lambda: stopping.put(_BROKEN),
            )

    def start(self) -> None:
        """Opens the ports."""
        options = self._options
        if self._grpc is not None:
            if options.port:
                self._grpc.listen(options.host, options.port, self._ssl_config)
            if options.grpc_socket_path is not None:
                self._grpc.listen_on_socket(options.grpc_socket_path)
            self._grpc.start()
        if self._rest is not None:
            try:
                self._rest.start()
            except OSError as error:
                raise ports.port_error(
                    options.host, options.rest_api_port, "rest_api_port", error
                ) from None

    def stop(self) -> None:
        """Stops to accept, and answers what was accepted, unless it takes too long."""
        end = time.monotonic() + GRACE_SECONDS
        if self._rest is not None:
            self._rest.announce_stop()
        if self._grpc is not None:
            self._grpc.announce_stop()
            self._grpc.stop(GRACE_SECONDS)
        if self._rest is not None:
            self._rest.join()
        # What is left has no client any more, but still uses a model.
        if not self._gate.drain(max(end - time.monotonic(), 0)):
            logger.warning(
                "Gave up what took over %d s: requests in work: %d",
                GRACE_SECONDS,
                self._gate.in_flight,
            )
            return
        logger.info("Everything that was accepted is answered")
        if self._app is not None:
            self._app.close()


def _config_poller(
    manager: ModelManager, options: ServerOptions
) -> ConfigPoller | None:
    if not options.model_config_file_poll_wait_seconds:
        return None
    assert options.model_config_file is not None  # check_options
    return ConfigPoller(
        options.model_config_file,
        read_model_config,
        functools.partial(manager.set_config, timeout=_RELOAD_SECONDS),
        options.model_config_file_poll_wait_seconds,
    )


def _load_models(manager: ModelManager, options: ServerOptions) -> Any:
    """Loads what is to be served, and waits for it; returns its ModelServerConfig."""
    if options.model_config_file is not None:
        config = read_model_config(options.model_config_file)
    else:
        assert options.model_name and options.model_base_path  # check_options
        config = single_model_config(options.model_name, options.model_base_path)
    try:
        manager.set_config(config)
    except StatusError as error:
        raise ServingError(_why_not(error, options)) from None
    return config


def _why_not(error: StatusError, options: ServerOptions) -> str:
    """Why a server does not start, for people."""
    reason = _NODE.sub("", error.message)
    if error.code is Code.FAILED_PRECONDITION:
        mend = (
            "Labels are read before anything is loaded: give "
            "--allow_version_labels_for_unavailable_models too."
        )
    else:
        folder = options.model_base_path or "FOLDER"
        mend = (
            "`kbert export --check` says what is wrong with a version's folder; mend "
            f"it or take it out of {folder}."
        )
    return f"The server cannot start: {reason}. {mend}"


def _manager_options(options: ServerOptions, batching: Any) -> ManagerOptions:
    load = LoadOptions(
        warmup=options.enable_model_warmup,
        warmup_iterations=options.num_request_iterations_for_warmup,
        batching=batching,
        intra_op_threads=options.tensorflow_intra_op_parallelism,
        inter_op_threads=options.tensorflow_inter_op_parallelism,
        limits=RequestLimits(options.max_rows_per_request, options.max_text_bytes),
    )
    return ManagerOptions(
        load=load,
        poll_seconds=options.file_system_poll_wait_seconds,
        max_load_retries=options.max_num_load_retries,
        load_retry_interval_seconds=options.load_retry_interval_micros / 1e6,
        allow_labels_for_unavailable=(
            options.allow_version_labels_for_unavailable_models
        ),
    )


def _rest_options(prepared: Prepared) -> RestOptions:
    options = prepared.options
    return RestOptions(
        timeout_seconds=options.rest_api_timeout_in_ms / 1000,
        max_body_bytes=options.max_body_bytes,
        enable_cors=options.rest_api_enable_cors_support,
        num_threads=options.rest_api_num_threads,
        metrics_path=prepared.metrics_path,
    )


def _grpc_options(options: ServerOptions) -> GrpcOptions:
    return GrpcOptions(
        num_threads=options.grpc_max_threads,
        max_body_bytes=options.max_body_bytes,
        max_pending_requests=options.max_pending_requests,
        channel_arguments=parse_channel_arguments(options.grpc_channel_arguments),
        health=options.enable_grpc_healthcheck_service,
        tensor_content=options.enable_serialization_as_tensor_content,
    )


def _handlers() -> dict[int, Any]:
    """What is done at each signal; a shell lets background jobs ignore SIGINT."""
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    return {n: handler for n, handler in handlers.items() if handler != signal.SIG_IGN}


def _set_handlers(handlers: Mapping[int, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _wait_for(stopping: "queue.SimpleQueue[int]") -> int:
    """The next number in a queue that a signal's handler fills.

    Handlers run in the main thread, which a signal that the system gave to another
    thread does not wake: it wakes by itself.
    """
    while True:
        with contextlib.suppress(queue.Empty):
            return stopping.get(timeout=_WAKE_SECONDS)


def _send_signals_to(stopping: "queue.SimpleQueue[int]") -> None:
    """SIGINT and SIGTERM become their number in a queue; a second one ends us."""
    heard = _handlers()

    def receive(number: int, frame: FrameType | None) -> None:
        _set_handlers(dict.fromkeys(heard, signal.SIG_DFL))
        # A queue that may be used in a handler: it waits for no lock.
        stopping.put(number)

    _set_handlers(dict.fromkeys(heard, receive))

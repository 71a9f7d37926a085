"""What `kbert serve` can be told: TensorFlow Serving's flags, and kbert's own.

Nothing here imports TensorFlow: every mistake that can be seen in the flags and the
small files they name is reported before the slow import.
"""

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbert.errors import ServingError

MEBIBYTE = 1 << 20
# As TensorFlow Serving: four threads a CPU for each of the two protocols.
NUM_THREADS = 4 * (os.cpu_count() or 1)
# Flag -> the flag that it does nothing without.
_NEEDS = {
    "rest_api_timeout_in_ms": "rest_api_port",
    "rest_api_num_threads": "rest_api_port",
    "rest_api_enable_cors_support": "rest_api_port",
    "monitoring_config_file": "rest_api_port",
    "ssl_config_file": "port",
    "batching_parameters_file": "enable_batching",
    "load_retry_interval_micros": "max_num_load_retries",
    "model_config_file_poll_wait_seconds": "model_config_file",
    "num_request_iterations_for_warmup": "enable_model_warmup",
}
_GRPC_FLAGS = (
    "grpc_channel_arguments",
    "grpc_max_threads",
    "enable_grpc_healthcheck_service",
    "enable_serialization_as_tensor_content",
)
_SOCKET_PATH_BYTES = 107  # sockaddr_un holds 108 with its final zero


@dataclass(frozen=True)
class ServerOptions:
    """The flags of the server, by TensorFlow Serving's names.

    Either `model_name` and `model_base_path` say what is served, or
    `model_config_file`.

    Attributes:
        host: address that both protocols listen on.
        port: gRPC; 0 for none.
        rest_api_port: REST, metrics and the page; 0 for none.
        rest_api_timeout_in_ms: of one REST request, waiting included.
        grpc_channel_arguments: `name=value,name=value`.
        load_retry_interval_micros: between two tries to load a broken version.
        max_body_bytes: largest request that either protocol reads.
        max_pending_requests: how many may be worked on or wait, over both protocols.
        max_rows_per_request: texts or examples of one request.
        max_text_bytes: of one text.
    """

    model_name: str | None = None
    model_base_path: Path | None = None
    model_config_file: Path | None = None
    host: str = "127.0.0.1"
    port: int = 8500
    rest_api_port: int = 8501
    rest_api_timeout_in_ms: int = 30_000
    rest_api_num_threads: int = NUM_THREADS
    rest_api_enable_cors_support: bool = False
    grpc_socket_path: Path | None = None
    grpc_channel_arguments: str = ""
    grpc_max_threads: int = NUM_THREADS
    model_config_file_poll_wait_seconds: int = 0
    file_system_poll_wait_seconds: int = 1
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    enable_batching: bool = False
    batching_parameters_file: Path | None = None
    enable_model_warmup: bool = True
    num_request_iterations_for_warmup: int = 1
    monitoring_config_file: Path | None = None
    ssl_config_file: Path | None = None
    enable_grpc_healthcheck_service: bool = True
    allow_version_labels_for_unavailable_models: bool = False
    tensorflow_intra_op_parallelism: int = 0
    tensorflow_inter_op_parallelism: int = 0
    enable_serialization_as_tensor_content: bool = False
    max_body_bytes: int = 64 * MEBIBYTE
    max_pending_requests: int = 256
    max_rows_per_request: int = 1024
    max_text_bytes: int = MEBIBYTE

    def __post_init__(self) -> None:
        for name in ("port", "rest_api_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise ServingError(
                    f"--{name} is a number from 0 (off) to 65535. Received: "
                    f"{getattr(self, name)}."
                )
        for name in _SMALLEST:
            if getattr(self, name) < _SMALLEST[name]:
                raise ServingError(
                    f"--{name} is at least {_SMALLEST[name]}. Received: "
                    f"{getattr(self, name)}."
                )


_SMALLEST = {
    "rest_api_timeout_in_ms": 1,
    "rest_api_num_threads": 1,
    "grpc_max_threads": 1,
    "model_config_file_poll_wait_seconds": 0,
    "file_system_poll_wait_seconds": 0,
    "max_num_load_retries": 0,
    "load_retry_interval_micros": 0,
    "num_request_iterations_for_warmup": 1,
    "tensorflow_intra_op_parallelism": 0,
    "tensorflow_inter_op_parallelism": 0,
    "max_body_bytes": 1,
    "max_pending_requests": 1,
    "max_rows_per_request": 1,
    "max_text_bytes": 1,
}


def check_options(options: ServerOptions, given: Collection[str]) -> None:
    """Checks that the flags fit each other.

    Args:
        options: all of them.
        given: the names of those that the user wrote.

    Raises:
        ServingError: two contradict each other, one has no effect, or there is nothing
            to serve or nowhere to serve it.
    """
    has_grpc = bool(options.port or options.grpc_socket_path)
    if not has_grpc and not options.rest_api_port:
        raise ServingError(
            "--port 0 and --rest_api_port 0 leave nothing to answer on. Give one of "
            "them a port, or --grpc_socket_path."
        )
    for name, needed in _NEEDS.items():
        if name in given and not getattr(options, needed):
            raise ServingError(
                f"--{name} has no effect without --{needed}. Leave it out, or give "
                f"--{needed}."
            )
    for name in _GRPC_FLAGS:
        if name in given and not has_grpc:
            raise ServingError(
                f"--{name} has no effect without gRPC. Leave it out, or give --port."
            )
    parse_channel_arguments(options.grpc_channel_arguments)
    _check_models(options)
    _check_socket_path(options.grpc_socket_path)


def parse_channel_arguments(text: str) -> dict[str, int | str]:
    """`name=value,name=value`, where whole numbers become such.

    Raises:
        ServingError: a part has no `=` or no name.
    """
    arguments: dict[str, int | str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise ServingError(
                "--grpc_channel_arguments is a list of name=value with commas "
                "between, such as grpc.max_connection_age_ms=2000. "
                f"Received: {part!r}."
            )
        is_whole = re.fullmatch(r"[+-]?[0-9]{1,9}", value)
        arguments[name] = int(value) if is_whole else value
    return arguments


def flag_value(value: Any) -> str:
    """A value as TensorFlow Serving's command line reads it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_models(options: ServerOptions) -> None:
    if options.model_config_file is not None:
        if options.model_name or options.model_base_path:
            raise ServingError(
                "--model_config_file names the models and their folders itself. Leave "
                "out the folder, --model_base_path and --model_name, or leave out "
                "the file."
            )
    elif options.model_base_path is None:
        raise ServingError(
            "Say what to serve: kbert serve saved_models/NAME, or "
            "--model_config_file FILE."
        )
    elif not options.model_name or re.search(r"[/:]", options.model_name):
        raise ServingError(
            "A model's name has at least one character, and no / or :, which part it "
            "from what follows in addresses. Received: --model_name "
            f"{options.model_name!r}."
        )


def _check_socket_path(path: Path | None) -> None:
    if path is None:
        return
    length = len(os.fsencode(path))
    if length > _SOCKET_PATH_BYTES:
        raise ServingError(
            f"--grpc_socket_path has at most {_SOCKET_PATH_BYTES} bytes. Received "
            f"{length}: {path}. Choose a shorter one."
        )
    if not path.parent.is_dir():
        raise ServingError(
            f"--grpc_socket_path {path}: there is no folder {path.parent}. Make it "
            "first."
        )
    if path.exists() and not path.is_socket():
        raise ServingError(
            f"--grpc_socket_path {path} is a file that is no socket. Choose a path "
            "that is free."
        )

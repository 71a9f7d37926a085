"""What a server settles before TensorFlow is imported: small files and ports."""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbert.errors import ConfigError
from kbert.protos import BatchingParameters
from kbert.serving import ports
from kbert.serving.batching_options import read_batching_options
from kbert.serving.config_files import (
    read_batching_parameters,
    read_file,
    read_metrics_path,
    read_ssl_config,
)
from kbert.serving.model_folder import own_batching_file
from kbert.serving.options import ServerOptions


@dataclass(frozen=True)
class Prepared:
    """A server that can be started.

    Attributes:
        options: the flags.
        rest_socket: has REST's port; None where REST is off.
        batching: a BatchingParameters; None where batching is off.
        metrics_path: on REST's port; None for no metrics.
        ssl_config: an SSLConfig; None for gRPC without TLS.
    """

    options: ServerOptions
    rest_socket: socket.socket | None
    batching: Any
    metrics_path: str | None
    ssl_config: Any


def prepare(options: ServerOptions) -> Prepared:
    """Reads the small files and takes the ports.

    Raises:
        ServingError: a port is taken, or a file cannot be read.
        ConfigError: a file is not what its flag asks for.
    """
    if options.model_config_file is not None:
        read_file(options.model_config_file, "model_config_file")
    metrics_path = ssl_config = batching = rest_socket = None
    if options.rest_api_port:
        metrics_path = read_metrics_path(options.monitoring_config_file)
    if options.ssl_config_file is not None:
        ssl_config = read_ssl_config(options.ssl_config_file)
    if options.enable_batching:
        file = batching_file(options)
        batching = read_batching_parameters(file) if file else BatchingParameters()
        _check_batching(batching, file)
    if options.port:
        ports.check_free(options.host, options.port, "port")
    if options.grpc_socket_path is not None:
        ports.check_socket_free(options.grpc_socket_path)
    if options.rest_api_port:
        rest_socket = ports.bind(options.host, options.rest_api_port, "rest_api_port")
    return Prepared(options, rest_socket, batching, metrics_path, ssl_config)


def _check_batching(parameters: Any, file: Path | None) -> None:
    try:
        read_batching_options(parameters)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None


def batching_file(options: ServerOptions) -> Path | None:
    """The batching parameters to use: those named, or else those of the export.

    None where neither is there, and the server's defaults are used.
    """
    if options.batching_parameters_file or options.model_base_path is None:
        return options.batching_parameters_file
    return own_batching_file(options.model_base_path)


def describe_batching(options: ServerOptions) -> str | None:
    """Where batches get their sizes from, in words; None where batching is off."""
    if not options.enable_batching:
        return None
    file = batching_file(options)
    if file is None:
        return "Batching across requests, with TensorFlow Serving's defaults"
    whose = "" if options.batching_parameters_file else " (the export's own)"
    return f"Batching across requests, as {file}{whose} says"

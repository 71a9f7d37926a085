"""The small files that flags name: batching, monitoring and TLS, in protobuf's text.

Read before TensorFlow is imported, so that a mistake in one is told at once.
"""

import os
import ssl
import tempfile
from pathlib import Path
from typing import Any

from kbert.bounded import read_bounded
from kbert.errors import ConfigError, ServingError
from kbert.protos import BatchingParameters, MonitoringConfig, SSLConfig, parse_text
from kbert.serving.batching_options import read_batching_options
from kbert.serving.metrics import DEFAULT_PATH

MAX_FILE_BYTES = 1_000_000


def read_file(path: Path, flag: str) -> str:
    """The text of a file that a flag names.

    Raises:
        ServingError: it cannot be read, or is no text.
    """
    try:
        return read_bounded(path, MAX_FILE_BYTES, ServingError).decode("utf-8")
    except ServingError as error:
        reason = str(error).replace(" cannot be read:", ":", 1)
        raise ServingError(f"--{flag} {reason}") from None
    except UnicodeDecodeError:
        raise ServingError(f"--{flag} {path} is no text in UTF-8.") from None


def read_batching_parameters(path: Path) -> Any:
    """A `BatchingParameters` message that a server can follow.

    Raises:
        ServingError: the file cannot be read.
        ConfigError: it is no such message, or its values contradict each other.
    """
    text = read_file(path, "batching_parameters_file")
    parameters = parse_text(text, BatchingParameters, str(path))
    try:
        read_batching_options(parameters)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return parameters


def read_metrics_path(path: Path | None) -> str | None:
    """Where on the REST port the metrics are to be; None for nowhere.

    Args:
        path: a MonitoringConfig file; None for metrics at TensorFlow Serving's path.

    Raises:
        ServingError: the file cannot be read, or its path is none.
        ConfigError: it is no such message.
    """
    if path is None:
        return DEFAULT_PATH
    text = read_file(path, "monitoring_config_file")
    config = parse_text(text, MonitoringConfig, str(path)).prometheus_config
    if not config.enable:
        return None
    metrics_path = config.path or DEFAULT_PATH
    if not metrics_path.startswith("/") or metrics_path.lower().startswith("/v1/"):
        raise ServingError(
            f"{path}: the path of the metrics begins with / and lies outside /v1/. "
            f"Received: {metrics_path!r}."
        )
    return metrics_path


def read_ssl_config(path: Path) -> Any:
    """An `SSLConfig` message whose certificates and key fit each other.

    Raises:
        ServingError: the file cannot be read, or gRPC could not use what is in it.
        ConfigError: it is no such message.
    """
    config = parse_text(read_file(path, "ssl_config_file"), SSLConfig, str(path))
    if not config.server_key or not config.server_cert:
        raise ServingError(
            f"{path}: server_key and server_cert are needed, each the contents of a "
            "PEM file (not its name), with \\n for its line ends."
        )
    if config.client_verify and not config.custom_ca:
        raise ServingError(
            f"{path}: client_verify needs custom_ca, by which clients are verified."
        )
    try:
        _load(config)
    except (ssl.SSLError, ValueError) as error:
        raise ServingError(
            f"{path}: server_key, server_cert and custom_ca are the contents of PEM "
            f"files, and the key is the certificate's. OpenSSL says: {error}"
        ) from None
    return config


def _load(config: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if config.custom_ca:
        context.load_verify_locations(cadata=config.custom_ca)
    # The ssl module loads a certificate chain from a file only.
    with tempfile.NamedTemporaryFile() as file:  # readable by this user only
        os.write(file.fileno(), f"{config.server_cert}\n{config.server_key}".encode())
        context.load_cert_chain(file.name, password=_no_password)


def _no_password() -> str:
    raise ValueError("the key is encrypted; a server has nobody to ask for a password")

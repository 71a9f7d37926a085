"""Which models are served: TensorFlow Serving's ModelServerConfig, read and checked."""

import logging
from pathlib import Path
from typing import Any

from tensorflow_serving.config import model_server_config_pb2

from kbert.bounded import read_bounded
from kbert.errors import ConfigError, ServingError
from kbert.protos import parse_text
from kbert.serving.config_files import MAX_FILE_BYTES
from kbert.serving.status import Code, StatusError

logger = logging.getLogger(__name__)

PLATFORM = "tensorflow"
_LARGEST_VERSION = 2**63 - 1


def read_model_config(path: Path) -> model_server_config_pb2.ModelServerConfig:
    """A ModelServerConfig from a file in protobuf's text format, checked.

    Raises:
        ServingError: the file cannot be read.
        ConfigError: it is no such message, or names no models that can be served.
    """
    try:
        text = read_bounded(path, MAX_FILE_BYTES, ServingError).decode("utf-8")
    except ServingError as error:
        reason = str(error).replace(" cannot be read:", ":", 1)
        raise ServingError(f"--model_config_file {reason}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"--model_config_file {path} is no text in UTF-8.") from None
    config = parse_text(text, model_server_config_pb2.ModelServerConfig, str(path))
    try:
        check_model_config(config)
    except StatusError as error:
        raise ConfigError(f"{path}: {error.message}") from None
    return config


def single_model_config(
    name: str, base_path: Path
) -> model_server_config_pb2.ModelServerConfig:
    """The config of one model, as of --model_name and --model_base_path.

    Args:
        base_path: the absolute path of the folder with the versions.
    """
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(
        name=name, base_path=str(base_path), model_platform=PLATFORM
    )
    return config


def check_model_config(config: model_server_config_pb2.ModelServerConfig) -> None:
    """Checks a config as TensorFlow Serving does before anything is changed.

    Raises:
        StatusError: INVALID_ARGUMENT, or UNIMPLEMENTED for what only the real server
            has.
    """
    if config.WhichOneof("config") == "custom_model_config":
        raise StatusError(
            Code.UNIMPLEMENTED, "custom_model_config is not supported by kbert serve"
        )
    names = set()
    for model in config.model_config_list.config:
        if not model.name:
            raise _invalid("Every model in the config list needs a name")
        if model.name in names:
            raise _invalid(
                f"Illegal to list model {model.name} multiple times in config list"
            )
        names.add(model.name)
        _check_platform(model)
        _check_base_path(model)
        _check_policy(model)
        if model.HasField("logging_config"):
            logger.warning(
                "logging_config of model %s has no effect: kbert serve keeps no log "
                "of requests",
                model.name,
            )


def _check_platform(model: Any) -> None:
    has_type = bool(model.model_type)
    if has_type and model.model_platform:
        raise _invalid(
            "Illegal setting both ModelServerConfig::model_type(deprecated) and "
            "ModelServerConfig::model_platform."
        )
    if not has_type and not model.model_platform:
        raise _invalid(
            "Illegal setting neither ModelServerConfig::model_type(deprecated) nor "
            "ModelServerConfig::model_platform."
        )
    is_tensorflow = (
        model.model_type == model_server_config_pb2.TENSORFLOW
        if has_type
        else model.model_platform == PLATFORM
    )
    if not is_tensorflow:
        raise _invalid(
            f'model_platform of model {model.name} must be "{PLATFORM}"; got '
            f'"{model.model_platform or model.model_type}"'
        )


def _check_base_path(model: Any) -> None:
    path = model.base_path
    if "://" in path:
        raise StatusError(
            Code.UNIMPLEMENTED,
            f"kbert serve reads models from folders of this machine; model "
            f"{model.name} has base_path()={path}",
        )
    if not path.startswith("/") or "\0" in path:
        raise _invalid(
            f"Expected model {model.name} to have an absolute path or URI; got "
            f"base_path()={path}"
        )


def _check_policy(model: Any) -> None:
    numbers = [
        *model.model_version_policy.specific.versions,
        *model.version_labels.values(),
    ]
    if any(not 0 <= number <= _LARGEST_VERSION for number in numbers):
        raise _invalid(f"A version of model {model.name} is negative: {numbers}")


def _invalid(message: str) -> StatusError:
    return StatusError(Code.INVALID_ARGUMENT, message)

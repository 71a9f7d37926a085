"""The files for a server's flags that travel with an export: points 34 and 35."""

import posixpath
from collections import Counter
from pathlib import Path

from tensorflow_serving.config import model_server_config_pb2

from kbert.exporting import server_files
from kbert.exporting.checks.opened import EXTRA, Export
from kbert.exporting.checks.points import Check, FailError, SkipError, some
from kbert.protos import BatchingParameters, parse_text

# What a server reads itself with --enable_per_model_batching_parameters.
_PER_MODEL_FILE_NAME = "batching_params.pbtxt"


def batching_is_right(export: Export) -> str:
    """Point 34, for `assets.extra/batching_parameters.txt` and the version's own
    `batching_params.pbtxt`."""
    files = [
        export.extra(server_files.BATCHING_FILE_NAME),
        export.folder / _PER_MODEL_FILE_NAME,
    ]
    shipped = [file for file in files if file.is_file()]
    if not shipped:
        raise _missing(export, server_files.BATCHING_FILE_NAME)
    for file in shipped:
        _check_batching(file)
    return some([file.name for file in shipped])


def model_config_is_right(export: Export) -> str:
    """Point 35."""
    name = server_files.MODEL_CONFIG_FILE_NAME
    file = export.extra(name)
    if not file.is_file():
        raise _missing(export, name)
    message = parse_text(
        file.read_text("utf-8"), model_server_config_pb2.ModelServerConfig, name
    )
    models = message.model_config_list.config
    if not models:
        raise FailError(f"{name} names no model. Export the run again.")
    for model in models:
        is_uri = "://" in model.base_path
        if not is_uri and not posixpath.isabs(model.base_path):
            raise FailError(
                f"{name}: base_path is where the model lies on the server, from the "
                f"root, not {model.base_path!r}. Write it with a / in front."
            )
        if model.model_platform != "tensorflow":
            raise FailError(
                f'{name}: model_platform is "tensorflow", not '
                f"{model.model_platform!r}. Write that."
            )
    counts = Counter(model.name for model in models)
    if wrong := [model for model, count in counts.items() if count > 1 or not model]:
        raise FailError(
            f"{name}: every model has a name of its own; {some(wrong) or 'one'} is "
            "empty or there twice. Rename it."
        )
    return some([f"{model.name} in {model.base_path}" for model in models])


CHECKS = (
    Check(34, "batching parameters are right", batching_is_right),
    Check(35, "the model config is right", model_config_is_right),
)


def _missing(export: Export, name: str) -> FailError | SkipError:
    """kbert's own exports have the file; others need not."""
    if export.has_card:
        return FailError(f"there is no {EXTRA}/{name}. Export the run again.")
    return SkipError(f"there is no {EXTRA}/{name}")


def _check_batching(file: Path) -> None:
    parameters = parse_text(file.read_text("utf-8"), BatchingParameters, file.name)
    if parameters.pad_variable_length_inputs:
        raise FailError(
            f"{file.name}: pad_variable_length_inputs pads with each request's first "
            "value, which for token ids is [CLS]. Write false; kbert pads in the graph."
        )
    sizes = list(parameters.allowed_batch_sizes)
    is_split = parameters.enable_large_batch_splitting.value
    name = "max_execution_batch_size" if is_split else "max_batch_size"
    largest = getattr(parameters, name).value
    if sizes and (sizes != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != largest):
        raise FailError(
            f"{file.name}: allowed_batch_sizes increase and end at {name}, {largest}, "
            f"else a server does not start. They are {some(sizes, 12)}. Change one."
        )
    if parameters.HasField("max_batch_size") and parameters.max_batch_size.value < 1:
        raise FailError(
            f"{file.name}: max_batch_size is at least 1, not "
            f"{parameters.max_batch_size.value}. Change it."
        )

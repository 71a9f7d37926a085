"""The real TensorFlow Serving, installed or in Docker, with the flags of `kbert serve`.

A flag that was not given is left to the engine, but for what decides whether anybody
finds the model: ports, name and folder.
"""

import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from kbert.errors import ServingError
from kbert.serving.options import ServerOptions, flag_value
from kbert.serving.ports import join_address
from kbert.serving.prepared import batching_file

PROGRAM = "tensorflow_model_server"
_MODELS_IN_IMAGE = "/models"
_FILES_IN_IMAGE = "/mnt"

# kbert's own, which TensorFlow Serving has nothing like.
_OWN = (
    "max_body_bytes",
    "max_pending_requests",
    "max_rows_per_request",
    "max_text_bytes",
)
_FILE_FLAGS = (
    "model_config_file",
    "batching_parameters_file",
    "monitoring_config_file",
    "ssl_config_file",
)
_ALWAYS = ("port", "rest_api_port", "model_name", "model_base_path")
_ANY_ADDRESS = ("0.0.0.0", "::")
# TensorFlow lower-cases by the process's locale: a Turkish one changes the answers.
_LOCALE = {"LC_ALL": "C.UTF-8"}


def server_command(options: ServerOptions, given: Collection[str]) -> list[str]:
    """The command line of tensorflow_model_server.

    Args:
        options: the flags.
        given: the names of those that the user wrote.

    Raises:
        ServingError: the program is not installed, or a flag has no counterpart.
    """
    _check_counterparts(given, PROGRAM)
    if "host" in given and options.host not in _ANY_ADDRESS:
        raise ServingError(
            f"{PROGRAM} listens on every address of the machine, and has nothing like "
            f"--host {options.host}. Leave it out, or take --engine docker."
        )
    program = _find(
        PROGRAM,
        "It is a part of TensorFlow Serving: https://www.tensorflow.org/tfx/serving/"
        "setup. Or take --engine docker, or kbert's own server.",
    )
    return [program, *_arguments(_flags(options, given))]


def docker_command(
    options: ServerOptions, given: Collection[str], image: str
) -> list[str]:
    """The command line of `docker run` with TensorFlow Serving's image.

    What it reads is mounted read-only.

    Raises:
        ServingError: docker is not installed, or a flag has no counterpart.
    """
    _check_counterparts(given, "TensorFlow Serving")
    if options.grpc_socket_path is not None:
        raise ServingError(
            "A Unix socket in a container is of no use outside of it. Leave out "
            "--grpc_socket_path, or take another --engine."
        )
    program = _find(
        "docker", "See https://docs.docker.com/get-docker/, or take kbert's own server."
    )
    flags = _flags(options, given)
    mounts = list(_mount(flags).items())
    if options.model_config_file is not None:
        # Its folders are the same inside as outside.
        mounts += [(path, path) for path in _base_paths(options.model_config_file)]
    return [
        program,
        "run",
        "--rm",
        # As process 1 the server would ignore signals.
        "--init",
        *_published(options),
        *(f"--mount={_mounting(source, to)}" for source, to in mounts),
        *(f"--env={name}={value}" for name, value in _LOCALE.items()),
        f"--entrypoint={PROGRAM}",
        image,
        *_arguments(flags),
    ]


def run_in_our_place(command: list[str]) -> None:
    """Becomes another program, which then receives our signals itself.

    Raises:
        ServingError: it cannot be run.
    """
    try:
        os.execve(command[0], command, {**os.environ, **_LOCALE})
    except OSError as error:
        raise ServingError(f"{command[0]} cannot be run: {error.strerror}.") from None


def _check_counterparts(given: Collection[str], engine: str) -> None:
    for name in _OWN:
        if name in given:
            raise ServingError(
                f"--{name} is kbert's own; {engine} has nothing like it. Leave it out, "
                "or take --engine kbert."
            )


def _find(program: str, mend: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise ServingError(f"{program} is not installed: not found on PATH. {mend}")
    return path


def _flags(options: ServerOptions, given: Collection[str]) -> dict[str, str]:
    """Flag -> value: what was given, and what cannot be left to the engine."""
    flags = {}
    for name in (*_ALWAYS, *sorted(set(given) - {*_ALWAYS, "host"})):
        value = getattr(options, name)
        if value is not None:
            value = os.path.abspath(value) if isinstance(value, Path) else value
            flags[name] = flag_value(value)
    own_file = batching_file(options) if options.enable_batching else None
    if own_file is not None:
        flags["batching_parameters_file"] = os.path.abspath(own_file)
    return flags


def _arguments(flags: Mapping[str, str]) -> list[str]:
    return [f"--{name}={value}" for name, value in flags.items()]


def _mount(flags: dict[str, str]) -> dict[str, str]:
    """Puts paths inside the image into `flags`; returns outside -> inside.

    A file is mounted with its folder: of a file alone the container would not see that
    another has been renamed over it.
    """
    mounts = {}
    if "model_base_path" in flags:
        inside = f"{_MODELS_IN_IMAGE}/{flags['model_name']}"
        mounts[flags["model_base_path"]] = flags["model_base_path"] = inside
    for name in _FILE_FLAGS:
        if name in flags:
            folder, file_name = os.path.split(flags[name])
            inside = mounts.setdefault(folder, f"{_FILES_IN_IMAGE}/{name}")
            flags[name] = f"{inside}/{file_name}"
    return mounts


def _base_paths(config_file: Path) -> list[str]:
    from kbert.serving.model_config import read_model_config

    paths = [
        config.base_path
        for config in read_model_config(config_file).model_config_list.config
    ]
    for path in paths:
        if not Path(path).is_dir():
            raise ServingError(
                f"{config_file} names the folder {path}, which is not on this machine. "
                "Give folders as they are here; the container sees them under the same "
                "names."
            )
    return paths


def _published(options: ServerOptions) -> list[str]:
    return [
        f"--publish={join_address(options.host, port)}:{port}"
        for port in (options.port, options.rest_api_port)
        if port
    ]


def _mounting(source: str, target: str) -> str:
    """A value of --mount: comma-separated, so that a comma in a path wants quotes."""
    fields = ("type=bind", f"source={source}", f"target={target}", "readonly")
    return ",".join(
        '"{}"'.format(field.replace('"', '""')) if set(field) & set(',"') else field
        for field in fields
    )

"""`kbert serve`: an exported model in, TensorFlow Serving's REST and gRPC out."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from kbert.errors import Interrupted
from kbert_cli.messages import show_messages

Command = TypeVar("Command", bound=Callable[..., Any])

_IMAGE = "tensorflow/serving:2.21.0"
_FILE = click.Path(path_type=Path)


class _Flag(NamedTuple):
    """A flag of TensorFlow Serving's; defaults are those of `ServerOptions`."""

    kind: Any
    metavar: str
    help: str


_TRUE_FALSE = "[=true|false]"
_FLAGS = {
    "host": _Flag(
        str, "ADDRESS", "Where to listen; 0.0.0.0 for all.  [default: 127.0.0.1]"
    ),
    "port": _Flag(int, "N", "gRPC; 0 turns it off.  [default: 8500]"),
    "rest_api_port": _Flag(int, "N", "REST; 0 turns it off.  [default: 8501]"),
    "model_name": _Flag(str, "NAME", "[default: the folder's name]"),
    "model_base_path": _Flag(_FILE, "DIR", "The same as MODEL."),
    "model_config_file": _Flag(
        _FILE, "FILE", "Several models: a ModelServerConfig, in place of MODEL."
    ),
    "model_config_file_poll_wait_seconds": _Flag(
        int, "N", "Read it again so often; 0 for once.  [default: 0]"
    ),
    "file_system_poll_wait_seconds": _Flag(
        int, "N", "Look for new versions so often; 0 for once.  [default: 1]"
    ),
    "max_num_load_retries": _Flag(
        int, "N", "Of a version that cannot be loaded.  [default: 5]"
    ),
    "load_retry_interval_micros": _Flag(
        int, "N", "From one to the next.  [default: 60000000]"
    ),
    "allow_version_labels_for_unavailable_models": _Flag(
        bool, _TRUE_FALSE, "A new label may name a version that is not loaded yet."
    ),
    "enable_model_warmup": _Flag(
        bool, _TRUE_FALSE, "Run the export's warm-up requests.  [default: true]"
    ),
    "num_request_iterations_for_warmup": _Flag(
        int, "N", "How often each of them.  [default: 1]"
    ),
    "enable_batching": _Flag(bool, _TRUE_FALSE, "Batch across requests."),
    "batching_parameters_file": _Flag(
        _FILE, "FILE", "BatchingParameters.  [default: the export's own]"
    ),
    "rest_api_timeout_in_ms": _Flag(int, "N", "Of a request.  [default: 30000]"),
    "rest_api_num_threads": _Flag(int, "N", "[default: 4 a CPU]"),
    "rest_api_enable_cors_support": _Flag(
        bool, _TRUE_FALSE, "Let pages of other sites ask."
    ),
    "monitoring_config_file": _Flag(
        _FILE,
        "FILE",
        "MonitoringConfig: Prometheus metrics on REST's port.  [default: on, at "
        "/monitoring/prometheus/metrics]",
    ),
    "grpc_socket_path": _Flag(_FILE, "PATH", "gRPC on a Unix socket, too."),
    "grpc_channel_arguments": _Flag(
        str, "NAME=VALUE,...", "gRPC's settings, as grpc.max_connection_age_ms=2000."
    ),
    "grpc_max_threads": _Flag(int, "N", "[default: 4 a CPU]"),
    "ssl_config_file": _Flag(_FILE, "FILE", "SSLConfig: TLS for gRPC's port."),
    "enable_grpc_healthcheck_service": _Flag(
        bool, _TRUE_FALSE, "[default: true; TensorFlow Serving's own default is false]"
    ),
    "enable_serialization_as_tensor_content": _Flag(
        bool, _TRUE_FALSE, "gRPC answers with bytes in place of lists of numbers."
    ),
    "tensorflow_intra_op_parallelism": _Flag(
        int, "N", "Threads of one operation; 0: TensorFlow chooses.  [default: 0]"
    ),
    "tensorflow_inter_op_parallelism": _Flag(
        int, "N", "Operations at a time; 0: TensorFlow chooses.  [default: 0]"
    ),
    "max_body_bytes": _Flag(
        int, "N", "Largest request that is read; kbert's own.  [default: 67108864]"
    ),
    "max_pending_requests": _Flag(
        int,
        "N",
        "Requests worked on or waiting; more are refused with 429 and "
        "RESOURCE_EXHAUSTED; kbert's own.  [default: 256]",
    ),
    "max_rows_per_request": _Flag(
        int, "N", "Texts of one request; kbert's own.  [default: 1024]"
    ),
    "max_text_bytes": _Flag(
        int, "N", "Longest text that is read; kbert's own.  [default: 1048576]"
    ),
}


class _TensorFlowFlags(click.Command):
    """Takes flags as TensorFlow Serving does, and with hyphens."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [as_flag(argument) for argument in args])


def as_flag(argument: str) -> str:
    """--enable-batching -> --enable_batching=true; other arguments as they are."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument[2:].partition("=")
    name = name.replace("-", "_")
    is_bool = name in _FLAGS and _FLAGS[name].kind is bool
    return f"--{name}{equals}{value}" if equals or not is_bool else f"--{name}=true"


def _flags(command: Command) -> Command:
    for name, flag in reversed(_FLAGS.items()):
        option = click.option(
            f"--{name}", type=flag.kind, metavar=flag.metavar, help=flag.help
        )
        command = option(command)
    return command


@click.command(cls=_TensorFlowFlags)
@click.argument("model", required=False, type=_FILE)
@click.option(
    "--engine",
    type=click.Choice(["kbert", "tensorflow_model_server", "docker"]),
    default="kbert",
    show_default=True,
    help="Who serves: kbert's development server, the real one, or its image.",
)
@click.option(
    "--docker_image",
    metavar="IMAGE",
    help=f"For --engine docker.  [default: {_IMAGE}]",
)
@_flags
def serve(
    model: Path | None, engine: str, docker_image: str | None, **flags: Any
) -> None:
    """Serve the exported model MODEL, such as saved_models/reviews.

    \b
    kbert serve saved_models/reviews
    kbert serve saved_models/reviews --enable_batching --port 0
    kbert serve --model_config_file models.config
    kbert serve saved_models/reviews --engine docker

    Answers TensorFlow Serving's REST and gRPC, and serves a page at / to try the model
    in a browser. A new version in MODEL is loaded while the old one serves on. The
    flags are TensorFlow Serving's; - may stand for _ in them. This is a development
    server: for production, deploy/ has TensorFlow Serving itself.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    if model is not None:
        if "model_base_path" in given:
            raise click.UsageError("Give the folder or --model_base_path, not both.")
        given["model_base_path"] = model
    if docker_image is not None and engine != "docker":
        raise click.UsageError("--docker_image is for --engine docker.")
    options = _options(given)
    if engine == "kbert":
        _serve_here(options)
    else:
        _run_engine(engine, options, given, docker_image or _IMAGE)


def _options(given: dict[str, Any]) -> Any:
    from kbert.serving.model_folder import check_model_folder
    from kbert.serving.options import ServerOptions, check_options

    names = dict(given)
    if "model_base_path" in given and "model_config_file" not in given:
        folder = check_model_folder(given["model_base_path"])
        names = {"model_name": folder.name, **given, "model_base_path": folder}
    options = ServerOptions(**names)
    check_options(options, given)
    return options


def _serve_here(options: Any) -> None:
    from kbert.serving.prepared import describe_batching, prepare

    prepared = prepare(options)
    click.echo("Engine: kbert's development server", err=True)
    batching = describe_batching(options)
    if batching is not None:
        click.echo(batching, err=True)
    show_messages()
    from kbert.serving.server import serve

    raise Interrupted("", serve(prepared))


def _run_engine(
    engine: str, options: Any, given: dict[str, Any], docker_image: str
) -> None:
    from kbert.serving import engines

    if engine == "docker":
        command = engines.docker_command(options, given, docker_image)
        name = f"docker, {docker_image}"
    else:
        command = engines.server_command(options, given)
        name = command[0]
        if "host" not in given:
            message = "Warning: tensorflow_model_server listens on every address."
            click.echo(message, err=True)
    click.echo(f"Engine: {name}", err=True)
    click.echo(shlex.join(command), err=True)
    engines.run_in_our_place(command)

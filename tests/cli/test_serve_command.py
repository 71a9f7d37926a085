"""`kbert serve`: flags, and mistakes that are told before TensorFlow is imported."""

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kbert.serving.options import ServerOptions
from kbert.serving.prepared import Prepared
from kbert_cli.serve import serve
from tests.cli.conftest import Kbert, Outcome
from tests.serving.ports import free_port

PORTS = ("--port=0", f"--rest_api_port={free_port()}")


@pytest.fixture
def model() -> Path:
    """A folder that looks like a model from outside."""
    folder = Path("saved_models/reviews")
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "saved_model.pb").touch()
    return folder


class Served:
    """Runs `kbert serve` up to the point where models would be loaded."""

    def __init__(self, kbert: Kbert, monkeypatch: pytest.MonkeyPatch) -> None:
        self._kbert = kbert
        self.received: list[Prepared] = []
        self.ends_with = signal.SIGTERM
        monkeypatch.setattr("kbert.serving.server.serve", self._serve)

    def _serve(self, prepared: Prepared) -> int:
        self.received.append(prepared)
        if prepared.rest_socket is not None:
            prepared.rest_socket.close()
        return self.ends_with

    def __call__(self, *arguments: object) -> Outcome:
        return self._kbert("serve", *arguments)

    def options(self, *arguments: object) -> ServerOptions:
        outcome = self(*arguments)
        assert self.received, outcome.err
        return self.received.pop().options


@pytest.fixture
def served(kbert: Kbert, monkeypatch: pytest.MonkeyPatch) -> Served:
    return Served(kbert, monkeypatch)


def test_name_and_absolute_folder_come_from_the_argument(
    served: Served, model: Path
) -> None:
    options = served.options(model, *PORTS)
    assert options.model_name == "reviews"
    assert options.model_base_path == Path.cwd() / model
    assert options.host == "127.0.0.1"
    options = served.options("--model_base_path", model, "--model-name=other", *PORTS)
    assert options.model_name == "other"
    assert options.model_base_path == Path.cwd() / model


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--enable_batching"], True),
        (["--enable-batching"], True),
        (["--enable_batching=true"], True),
        (["--enable-batching=false"], False),
        ([], False),
    ],
)
def test_bool_flags_take_a_value_or_none(
    served: Served, model: Path, arguments: list[str], expected: bool
) -> None:
    # The folder right behind the flag is not its value.
    assert served.options(*arguments, model, *PORTS).enable_batching is expected


def test_every_option_is_a_flag_that_arrives(served: Served, model: Path) -> None:
    Path("file").write_text("")
    given: dict[str, Any] = {
        "host": "localhost",
        "port": free_port(),
        "rest_api_port": free_port(),
        "model_name": "m",
        "model_base_path": Path.cwd() / model,
        "file_system_poll_wait_seconds": 2,
        "max_num_load_retries": 1,
        "load_retry_interval_micros": 3,
        "allow_version_labels_for_unavailable_models": True,
        "num_request_iterations_for_warmup": 4,
        "enable_model_warmup": True,
        "enable_batching": True,
        "batching_parameters_file": Path("file"),
        "rest_api_timeout_in_ms": 5,
        "rest_api_num_threads": 6,
        "rest_api_enable_cors_support": True,
        "monitoring_config_file": Path("file"),
        "grpc_socket_path": Path("socket"),
        "grpc_channel_arguments": "a=b",
        "grpc_max_threads": 7,
        "enable_grpc_healthcheck_service": False,
        "enable_serialization_as_tensor_content": True,
        "tensorflow_intra_op_parallelism": 8,
        "tensorflow_inter_op_parallelism": 9,
        "max_body_bytes": 10,
        "max_pending_requests": 11,
        "max_rows_per_request": 12,
        "max_text_bytes": 13,
    }
    others = {
        "model_config_file",
        "model_config_file_poll_wait_seconds",
        "ssl_config_file",
    }
    assert given.keys() | others == vars(ServerOptions()).keys()
    assert given.keys() | others | {"model", "engine", "docker_image"} == {
        parameter.name for parameter in serve.params
    }
    for separator in ("_", "-"):
        flags = [
            f"--{name.replace('_', separator)}={value}" for name, value in given.items()
        ]
        options = served.options(*flags)
        assert {name: getattr(options, name) for name in given} == given
        assert served.ends_with == signal.SIGTERM


def test_config_file_and_its_polling_arrive(served: Served) -> None:
    Path("models.config").write_text("model_config_list {}")
    flags = "--model_config_file_poll_wait_seconds=3", *PORTS
    options = served.options("--model-config-file", "models.config", *flags)
    assert options.model_config_file == Path("models.config")
    assert options.model_config_file_poll_wait_seconds == 3
    assert options.model_name is None


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_code_is_the_signals(
    served: Served, model: Path, number: signal.Signals, code: int
) -> None:
    served.ends_with = number
    outcome = served(model, *PORTS)
    assert outcome.code == code
    assert outcome.out == ""
    assert "Engine: kbert's development server" in outcome.err


def test_batching_says_whose_parameters_it_takes(served: Served, model: Path) -> None:
    outcome = served(model, "--enable_batching", *PORTS)
    assert "with TensorFlow Serving's defaults" in outcome.err
    file = model / "1" / "assets.extra" / "batching_parameters.txt"
    file.parent.mkdir()
    file.write_text("max_batch_size { value: 8 }")
    outcome = served(model, "--enable_batching", *PORTS)
    assert f"{file} (the export's own)" in outcome.err
    assert served.received[-1].batching.max_batch_size.value == 8


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ([], "Say what to serve"),
        (["none"], "No model at .*none: there is no such folder"),
        (["saved_models/reviews/1"], "one version of a model"),
        (["saved_models"], "but models: saved_models/reviews"),
        (["saved_models/reviews", "--port=-1"], "--port is a number from 0"),
        (
            ["saved_models/reviews", "--batching_parameters_file", "b"],
            "no effect without --enable_batching",
        ),
        (["--model_config_file", "none"], "--model_config_file none: No such file"),
        (
            ["saved_models/reviews", "--model_config_file", "c"],
            "names the models and their folders itself",
        ),
        (
            ["saved_models/reviews", "--port=0", "--rest_api_port=0"],
            "leave nothing to answer on",
        ),
    ],
)
def test_mistakes_are_named(
    kbert: Kbert, model: Path, arguments: list[str], match: str
) -> None:
    outcome = kbert("serve", *arguments)
    assert outcome.code == 2
    assert re.search(match, outcome.message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["saved_models/reviews", "--port=x"], "--port"),
        (["saved_models/reviews", "--enable_batching=maybe"], "--enable_batching"),
        (["saved_models/reviews", "--none"], "--none"),
        (["saved_models/reviews", "--docker_image=i"], "for --engine docker"),
        (["a", "--model_base_path=b"], "not both"),
    ],
)
def test_usage_mistakes(
    kbert: Kbert, model: Path, arguments: list[str], message: str
) -> None:
    outcome = kbert("serve", *arguments)
    assert outcome.code == 2
    assert message in outcome.err


@pytest.mark.parametrize("flag", ["port", "rest_api_port"])
def test_a_port_in_use_names_the_flag(kbert: Kbert, model: Path, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        others = {"port": 0, "rest_api_port": 0, flag: port}
        flags = [f"--{name}={value}" for name, value in others.items()]
        outcome = kbert("serve", model, *flags)
    assert outcome.code == 2
    assert f"Port {port} on 127.0.0.1 is in use" in outcome.message
    assert f"--{flag}" in outcome.message


def test_mistakes_are_told_before_tensorflow_is_imported(tmp_path: Path) -> None:
    script = (
        "import atexit, sys; from kbert_cli.main import main; "
        "atexit.register(lambda: print('tensorflow' in sys.modules)); "
        "sys.argv = ['kbert', 'serve', 'none']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no such folder" in done.stderr
    assert done.stdout == "False\n"

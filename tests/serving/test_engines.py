"""The command lines of the real server, and of its image."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kbert.errors import ServingError
from kbert.exporting.server_files import BATCHING_FILE_NAME
from kbert.serving import engines
from kbert.serving.model_folder import BATCHING_FILE
from kbert.serving.options import ServerOptions

IMAGE = "tensorflow/serving:1.2.3"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like an export with batching parameters."""
    folder = tmp_path / "models, mine" / "reviews"
    (folder / "1" / BATCHING_FILE).parent.mkdir(parents=True)
    (folder / "1" / "saved_model.pb").touch()
    (folder / "1" / BATCHING_FILE).write_text("max_batch_size { value: 8 }")
    return folder


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of fakes that write their arguments and environment to `record`."""
    folder, record = tmp_path / "bin", tmp_path / "record"
    folder.mkdir()
    for name in ("tensorflow_model_server", "docker"):
        program = folder / name
        program.write_text(
            f"#!{sys.executable}\nimport json, os, sys\n"
            f"json.dump([sys.argv, os.environ['LC_ALL']], open({str(record)!r}, 'w'))\n"
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def options(model: Path, **given: object) -> tuple[ServerOptions, dict[str, object]]:
    given = {"model_base_path": model, **given}
    return ServerOptions(**{"model_name": "reviews", **given}), given


def test_binary_gets_what_was_given_and_what_it_cannot_do_without(
    model: Path, programs: Path
) -> None:
    command = engines.server_command(
        *options(model, port=9000, rest_api_timeout_in_ms=5, enable_model_warmup=False)
    )
    assert command == [
        str(programs / "tensorflow_model_server"),
        "--port=9000",
        "--rest_api_port=8501",
        "--model_name=reviews",
        f"--model_base_path={model}",
        "--enable_model_warmup=false",
        "--rest_api_timeout_in_ms=5",
    ]


def test_binary_gets_the_exports_own_batching_parameters(
    model: Path, programs: Path
) -> None:
    command = engines.server_command(*options(model, enable_batching=True))
    assert "--enable_batching=true" in command
    own = model / "1" / "assets.extra" / BATCHING_FILE_NAME
    assert f"--batching_parameters_file={own}" in command


def test_binary_gets_absolute_paths(
    model: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    given = {"model_config_file": Path("models.config")}
    command = engines.server_command(ServerOptions(**given), given)
    assert command[1:] == [
        "--port=8500",
        "--rest_api_port=8501",
        f"--model_config_file={model.parent / 'models.config'}",
    ]


def test_docker_mounts_the_model_and_publishes_on_the_host(
    model: Path, programs: Path
) -> None:
    command = engines.docker_command(*options(model, enable_batching=True), IMAGE)
    assert command == [
        str(programs / "docker"),
        "run",
        "--rm",
        "--init",
        "--publish=127.0.0.1:8500:8500",
        "--publish=127.0.0.1:8501:8501",
        f'--mount=type=bind,"source={model}",target=/models/reviews,readonly',
        f'--mount=type=bind,"source={model}/1/assets.extra",'
        "target=/mnt/batching_parameters_file,readonly",
        "--env=LC_ALL=C.UTF-8",
        "--entrypoint=tensorflow_model_server",
        IMAGE,
        "--port=8500",
        "--rest_api_port=8501",
        "--model_name=reviews",
        "--model_base_path=/models/reviews",
        "--enable_batching=true",
        "--batching_parameters_file=/mnt/batching_parameters_file/"
        "batching_parameters.txt",
    ]


def test_docker_publishes_no_port_that_is_off(model: Path, programs: Path) -> None:
    given = {"host": "::1", "port": 0, "rest_api_port": 80}
    command = engines.docker_command(*options(model, **given), IMAGE)
    published = [argument for argument in command if argument.startswith("--publish")]
    assert published == ["--publish=[::1]:80:80"]
    assert "--port=0" in command
    assert not any(argument.startswith("--host") for argument in command)


def test_docker_mounts_the_folders_of_a_config_file(
    model: Path, programs: Path
) -> None:
    file = model.parent / "models.config"
    file.write_text(
        f'model_config_list {{ config {{ name: "a" base_path: "{model}" '
        'model_platform: "tensorflow" } }'
    )
    given = {"model_config_file": file}
    command = engines.docker_command(ServerOptions(**given), given, IMAGE)
    assert "--model_config_file=/mnt/model_config_file/models.config" in command
    assert f'--mount=type=bind,"source={model}","target={model}",readonly' in command
    model.rename(model.with_name("elsewhere"))
    with pytest.raises(ServingError, match="not on this machine"):
        engines.docker_command(ServerOptions(**given), given, IMAGE)


@pytest.mark.parametrize(
    "name",
    [
        "max_body_bytes",
        "max_pending_requests",
        "max_rows_per_request",
        "max_text_bytes",
    ],
)
def test_what_has_no_counterpart_is_refused(
    model: Path, programs: Path, name: str
) -> None:
    with pytest.raises(ServingError, match=f"--{name} is kbert's own"):
        engines.server_command(*options(model, **{name: 5}))
    with pytest.raises(ServingError, match=f"--{name} is kbert's own"):
        engines.docker_command(*options(model, **{name: 5}), IMAGE)


def test_binary_listens_everywhere(model: Path, programs: Path) -> None:
    with pytest.raises(ServingError, match="listens on every address"):
        engines.server_command(*options(model, host="127.0.0.1"))
    command = engines.server_command(*options(model, host="0.0.0.0"))
    assert not any("host" in argument for argument in command)


def test_docker_has_no_use_for_a_unix_socket(model: Path, programs: Path) -> None:
    with pytest.raises(ServingError, match="Unix socket in a container"):
        engines.docker_command(*options(model, grpc_socket_path=Path("s")), IMAGE)


def test_missing_programs_are_named(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServingError, match="tensorflow_model_server is not installed"):
        engines.server_command(*options(model))
    with pytest.raises(ServingError, match="docker is not installed"):
        engines.docker_command(*options(model), IMAGE)


@pytest.mark.parametrize("engine", ["tensorflow_model_server", "docker"])
def test_command_becomes_the_engine(
    model: Path, programs: Path, tmp_path: Path, engine: str
) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from kbert_cli.main import main; main()"),
            *("serve", str(model), "--engine", engine, "--port=0"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    arguments, locale = json.loads((tmp_path / "record").read_text())
    assert arguments[0] == str(programs / engine)
    assert "--port=0" in arguments
    assert locale == "C.UTF-8"
    assert engine in done.stderr

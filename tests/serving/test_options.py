"""Flags that do not fit each other, and the small files they name."""

import socket
from pathlib import Path

import pytest

from kbert.errors import ConfigError, ServingError
from kbert.exporting.server_files import BATCHING_FILE_NAME
from kbert.protos import SSLConfig, to_text
from kbert.serving import ports
from kbert.serving.config_files import (
    read_batching_parameters,
    read_metrics_path,
    read_ssl_config,
)
from kbert.serving.model_folder import (
    BATCHING_FILE,
    check_model_folder,
    own_batching_file,
)
from kbert.serving.options import ServerOptions, check_options, parse_channel_arguments
from kbert.serving.prepared import describe_batching, prepare
from tests.serving.certificates import make_certificate
from tests.serving.ports import free_port

SERVED = {"model_name": "m", "model_base_path": Path("/models/m")}


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"port": -1}, "--port is a number from 0"),
        ({"rest_api_port": 65536}, "--rest_api_port is a number .* Received: 65536"),
        ({"rest_api_timeout_in_ms": 0}, "--rest_api_timeout_in_ms is at least 1"),
        ({"max_pending_requests": 0}, "--max_pending_requests is at least 1"),
        ({"file_system_poll_wait_seconds": -1}, "seconds is at least 0"),
        ({"port": 0, "rest_api_port": 0}, "leave nothing to answer on"),
        ({"batching_parameters_file": Path("b")}, "without --enable_batching"),
        ({"rest_api_port": 0, "rest_api_num_threads": 2}, "without --rest_api_port"),
        ({"rest_api_port": 0, "monitoring_config_file": Path("m")}, "--rest_api_port"),
        ({"port": 0, "ssl_config_file": Path("s")}, "no effect without --port"),
        ({"port": 0, "grpc_max_threads": 1}, "no effect without gRPC"),
        ({"model_config_file_poll_wait_seconds": 1}, "without --model_config_file"),
        (
            {"enable_model_warmup": False, "num_request_iterations_for_warmup": 2},
            "without --enable_model_warmup",
        ),
        ({"model_config_file": Path("c")}, "names the models and their folders"),
        ({"model_base_path": None}, "Say what to serve"),
        ({"model_name": ""}, "at least one character"),
        ({"model_name": "a/b"}, "no / or :"),
        ({"grpc_channel_arguments": "grpc.a"}, "name=value.* Received: 'grpc.a'"),
        ({"grpc_socket_path": Path("/" + "a" * 107)}, "at most 107 bytes.*108"),
        ({"grpc_socket_path": Path("/none/such")}, "there is no folder /none"),
        ({"grpc_socket_path": Path(__file__)}, "is a file that is no socket"),
    ],
)
def test_flags_that_do_not_fit_are_refused(given: dict, match: str) -> None:
    with pytest.raises(ServingError, match=match):
        check_options(ServerOptions(**{**SERVED, **given}), given)


def test_defaults_fit() -> None:
    check_options(ServerOptions(**SERVED), SERVED)
    only_socket = {"port": 0, "rest_api_port": 0, "grpc_socket_path": Path("socket")}
    check_options(ServerOptions(**SERVED, **only_socket), only_socket)


def test_channel_arguments_are_numbers_or_texts() -> None:
    text = "grpc.max_connection_age_ms=2000, grpc.lb_policy_name=a=b,"
    assert parse_channel_arguments(text) == {
        "grpc.max_connection_age_ms": 2000,
        "grpc.lb_policy_name": "a=b",
    }


def write_model(folder: Path) -> Path:
    (folder / "1").mkdir(parents=True)
    (folder / "1" / "saved_model.pb").touch()
    return folder


def test_model_folder_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "saved_models" / "reviews")
    monkeypatch.chdir(tmp_path)
    folder = check_model_folder(Path("saved_models/../saved_models/reviews"))
    assert folder == tmp_path / "saved_models" / "reviews"


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ("saved_models/none", "no such folder. .*kbert export RUN saved_models/none"),
        ("saved_models/reviews/1", "one version .* kbert serve saved_models/reviews$"),
        ("saved_models", "but models: saved_models/reviews. Give one of them"),
        ("run", "is a run.* kbert export run saved_models/run"),
        ("empty", "is empty. .*kbert export RUN empty"),
        ("other", "no numbered versions in it. Write"),
        ("bare", "without a version. .* move it to bare/1 and give bare"),
        ("file", "is a file; .*--model_config_file"),
    ],
)
def test_what_is_no_model_folder_says_what_it_is(
    given: str, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "saved_models" / "reviews")
    for name in ("run", "empty", "other", "bare"):
        (tmp_path / name).mkdir()
    for name in ("run/config.toml", "other/notes", "bare/saved_model.pb", "file"):
        (tmp_path / name).touch()
    with pytest.raises(ServingError, match=match):
        check_model_folder(Path(given))


def test_newest_versions_own_batching_file_is_found(tmp_path: Path) -> None:
    assert BATCHING_FILE.name == BATCHING_FILE_NAME
    folder = write_model(tmp_path / "m")
    assert own_batching_file(folder) is None
    newest = folder / "0010" / BATCHING_FILE
    newest.parent.mkdir(parents=True)
    newest.write_text("max_batch_size { value: 8 }")
    assert own_batching_file(folder) == newest
    options = ServerOptions(
        model_name="m", model_base_path=folder, enable_batching=True, port=0
    )
    assert "export's own" in str(describe_batching(options))
    prepared = prepare(ServerOptions(**{**vars(options), "rest_api_port": free_port()}))
    assert prepared.rest_socket is not None
    prepared.rest_socket.close()
    assert prepared.batching.max_batch_size.value == 8


def test_files_that_are_not_what_their_flag_wants(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with pytest.raises(ServingError, match=r"batching_parameters_file.*No such file"):
        read_batching_parameters(file)
    file.write_bytes(b"\xff")
    with pytest.raises(ServingError, match="no text in UTF-8"):
        read_metrics_path(file)
    file.write_text("max_batch_size: 8")
    with pytest.raises(ConfigError, match=r"BatchingParameters.*1:"):
        read_batching_parameters(file)
    file.write_text("max_batch_size { value: 8 } allowed_batch_sizes: 4")
    with pytest.raises(ConfigError, match=r"file: allowed_batch_sizes must end with"):
        read_batching_parameters(file)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", None),
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: true path: "/m" }', "/m"),
        ('prometheus_config { enable: false path: "/m" }', None),
    ],
)
def test_metrics_are_where_the_file_says(
    text: str, path: str | None, tmp_path: Path
) -> None:
    file = tmp_path / "monitoring.config"
    file.write_text(text)
    assert read_metrics_path(file) == path
    assert read_metrics_path(None) == "/monitoring/prometheus/metrics"


@pytest.mark.parametrize("path", ["metrics", "/v1/metrics"])
def test_metrics_cannot_be_where_models_are(path: str, tmp_path: Path) -> None:
    file = tmp_path / "monitoring.config"
    file.write_text(f'prometheus_config {{ enable: true path: "{path}" }}')
    with pytest.raises(ServingError, match="outside /v1/"):
        read_metrics_path(file)


def test_certificates_that_grpc_could_not_use(tmp_path: Path) -> None:
    def complain(match: str, **fields: object) -> None:
        file.write_text(to_text(SSLConfig(**fields)))
        with pytest.raises(ServingError, match=match):
            read_ssl_config(file)

    file = tmp_path / "ssl.config"
    other_key = make_certificate(tmp_path).key
    certificate, key, authority = make_certificate(tmp_path)
    pair = {"server_key": key, "server_cert": certificate}
    complain("server_key and server_cert are needed", server_cert=certificate)
    complain("contents of PEM", server_key="a.pem", server_cert="b.pem")
    complain("OpenSSL says", server_key=other_key, server_cert=certificate)
    complain("OpenSSL says", **pair, custom_ca="x")
    complain("needs custom_ca", **pair, client_verify=True)
    file.write_text(to_text(SSLConfig(**pair, custom_ca=authority)))
    assert read_ssl_config(file).server_key == key


def test_a_port_that_is_in_use_names_its_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(ServingError, match=f"Port {port} on .*in use.*--port"):
            ports.check_free("127.0.0.1", port, "port")
    ports.check_free("127.0.0.1", port, "port")


def test_a_bound_port_refuses_connections_until_it_listens() -> None:
    with ports.bind("localhost", free_port(), "rest_api_port") as taken:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(taken.getsockname()[:2])
        taken.listen()
        socket.create_connection(taken.getsockname()[:2]).close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.1"])
def test_a_host_that_is_not_this_machine(host: str) -> None:
    with pytest.raises(ServingError, match=f"--host is an address .*'{host}'"):
        ports.bind(host, 0, "port")


def test_a_unix_socket_that_somebody_answers_on(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    ports.check_socket_free(path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with pytest.raises(ServingError, match="in use by another server"):
            ports.check_socket_free(path)
    ports.check_socket_free(path)

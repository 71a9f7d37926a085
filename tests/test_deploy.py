"""deploy/ holds what TensorFlow Serving and its proxy take; docs/deploy.md says so."""

import asyncio
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from kbert.protos import BatchingParameters, MonitoringConfig, parse_text
from kbert.serving.metrics import Metrics
from kbert.serving.options import ServerOptions
from kbert.serving.status import Code
from kbert.settings import ExportSettings
from kbert_cli.serve import _IMAGE
from tests.deploy_files import (
    COMPOSE,
    CONTAINER,
    DEPLOY,
    FILES,
    FLAGS,
    KUBERNETES,
    POD,
    ROOT,
    documents,
    names,
    read,
    read_model_config,
)

WALK_THROUGH = (ROOT / "docs" / "deploy.md").read_text("utf-8")
YAML_FILES = [path for path in FILES if path.suffix in (".yaml", ".yml")]
IMAGE = re.compile(r"\btensorflow/serving:([\w.]+\w)")
METRICS_PATH = "/monitoring/prometheus/metrics"

# tensorflow_model_server 2.20.0: model_servers/main.cc.
KNOWN_FLAGS = set(
    """
    allow_version_labels_for_unavailable_models batching_parameters_file enable_batching
    enable_grpc_healthcheck_service enable_model_warmup
    enable_per_model_batching_parameters enable_profiler
    enable_serialization_as_tensor_content enable_signature_method_name_check
    file_system_poll_wait_seconds flush_filesystem_caches grpc_channel_arguments
    grpc_max_threads grpc_socket_path load_retry_interval_micros max_num_load_retries
    mixed_precision model_base_path model_config_file
    model_config_file_poll_wait_seconds model_name monitoring_config_file
    num_load_threads num_request_iterations_for_warmup num_tflite_interpreters_per_pool
    num_tflite_pools num_unload_threads per_process_gpu_memory_fraction
    platform_config_file port prefer_tflite_model
    remove_unused_fields_from_bundle_metagraph rest_api_enable_cors_support
    rest_api_num_threads rest_api_port rest_api_timeout_in_ms saved_model_tags
    skip_initialize_tpu ssl_config_file tensorflow_inter_op_parallelism
    tensorflow_intra_op_parallelism tensorflow_session_config_file
    tensorflow_session_parallelism thread_pool_factory_config_file use_alts_credentials
    version xla_cpu_compilation_enabled xla_gpu_compilation_enabled
    """.split()
)


@pytest.mark.parametrize("path", FILES, ids=names)
def test_each_file_says_what_it_is_and_what_to_change(path: Path):
    lines = path.read_text("utf-8").splitlines()
    head = lines[: _end_of_comment(lines)]
    assert head[0].startswith("# ") and len(head) >= 3, "no comment on top"
    assert any(line.startswith("# Change:") for line in head)
    assert max(map(len, head)) <= 88


def _end_of_comment(lines: list[str]) -> int:
    return next(i for i, line in enumerate(lines) if not line.startswith("#"))


@pytest.mark.parametrize("path", YAML_FILES, ids=names)
def test_yaml_is_whole_and_has_no_key_twice(path: Path):
    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(key) for key, _ in node.value]
            assert len(keys) == len(set(keys)), f"a key twice in {keys}"
            return super().construct_mapping(node, deep)

    found = list(yaml.load_all(path.read_text("utf-8"), Strict))
    assert found and all(isinstance(document, dict) for document in found)


def test_walk_through_names_every_file_and_no_other():
    named = set(re.findall(r"\bdeploy/[\w./-]*\.?\w+\b", WALK_THROUGH))
    folders = {"deploy/model_image"}
    made_by_the_reader = {"deploy/certificates/tls.crt", "deploy/certificates/tls.key"}
    assert named - folders - made_by_the_reader == {names(path) for path in FILES}


def test_one_image_of_the_server_everywhere():
    texts = [path.read_text("utf-8") for path in FILES] + [WALK_THROUGH]
    tags = {tag for text in texts for tag in IMAGE.findall(text)}
    assert tags == {"2.21.0"}
    assert f"tensorflow/serving:{tags.pop()}" == _IMAGE
    for text in texts:
        assert ":latest" not in text


def test_minor_version_of_the_image_is_that_of_tensorflow():
    (tag,) = IMAGE.findall(read("compose.yaml"))
    assert tag.split(".")[:2] == version("tensorflow").split(".")[:2]


def test_flags_are_tensorflow_servings():
    assert COMPOSE["services"]["serving"]["command"] == CONTAINER["args"]
    assert set(FLAGS) <= KNOWN_FLAGS
    assert (FLAGS["port"], FLAGS["rest_api_port"]) == ("8500", "8501")
    assert not {"model_name", "model_base_path"} & set(FLAGS), (
        "the config file has them"
    )
    assert "tensorflow_session_parallelism" not in FLAGS, "excludes the other two"
    assert not any(flag.startswith("xla") for flag in FLAGS)
    assert FLAGS["enable_batching"] == "true", "or the server refuses the parameters"
    assert FLAGS["allow_version_labels_for_unavailable_models"] == "true"


def test_flags_of_the_server_are_those_of_kbert_serve():
    assert set(FLAGS) <= {field.name for field in fields(ServerOptions)}


def test_files_that_flags_name_are_mounted():
    files = {value for flag, value in FLAGS.items() if flag.endswith("_file")}
    assert {Path(file).parent.as_posix() for file in files} == {"/config"}
    assert all((DEPLOY / "config" / Path(file).name).is_file() for file in files)
    assert "./config:/config:ro" in COMPOSE["services"]["serving"]["volumes"]
    mounts = {mount["name"]: mount for mount in CONTAINER["volumeMounts"]}
    assert mounts["config"]["mountPath"] == "/config"
    assert "subPath" not in mounts["config"], "such a mount is never updated"
    (generator,) = documents(DEPLOY / "kustomization.yaml")[0]["configMapGenerator"]
    assert {f"/{name}" for name in generator["files"]} == files
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    assert volumes["config"]["configMap"]["name"] == generator["name"]


def test_threads_go_with_the_cpus():
    limits = COMPOSE["services"]["serving"]["deploy"]["resources"]["limits"]
    batching = parse_text(read("config/batching.config"), BatchingParameters, "")
    assert {
        FLAGS["tensorflow_intra_op_parallelism"],
        FLAGS["tensorflow_inter_op_parallelism"],
        limits["cpus"],
        CONTAINER["resources"]["requests"]["cpu"],
        CONTAINER["resources"]["limits"]["cpu"],
        str(batching.num_batch_threads.value),
    } == {"2"}


@pytest.mark.parametrize("name", ["models.config", "canary.config"])
def test_model_config_is_one_and_its_labels_are_loaded(name: str):
    model = read_model_config(f"config/{name}")
    assert (model.model_platform, model.base_path) == (
        "tensorflow",
        f"/models/{model.name}",
    )
    versions = set(model.model_version_policy.specific.versions)
    assert set(model.version_labels.values()) <= versions
    assert "stable" in model.version_labels
    assert ("canary" in model.version_labels) == (name == "canary.config")


def test_batching_fits_what_an_export_warms_up_with():
    parameters = parse_text(read("config/batching.config"), BatchingParameters, "")
    defaults = ExportSettings()
    assert parameters.max_batch_size.value == defaults.max_batch_size
    assert parameters.batch_timeout_micros.value == defaults.batch_timeout_micros
    assert parameters.max_enqueued_batches.value == defaults.max_enqueued_batches
    assert parameters.pad_variable_length_inputs is False
    assert not parameters.allowed_batch_sizes


def test_metrics_have_one_path():
    config = parse_text(read("config/monitoring.config"), MonitoringConfig, "")
    assert config.prometheus_config.enable
    (job,) = documents(DEPLOY / "prometheus/prometheus.yml")[0]["scrape_configs"]
    template = KUBERNETES["Deployment", "kbert-serving"]["spec"]["template"]
    annotations = template["metadata"]["annotations"]
    assert {
        config.prometheus_config.path,
        job["metrics_path"],
        annotations["prometheus.io/path"],
    } == {METRICS_PATH}


def test_metrics_named_are_tensorflow_servings():
    metrics = Metrics()
    metrics.observe("reviews", "Predict", "GRPC", Code.OK, 0.1)
    metrics.observe_runtime("reviews", "Predict", 0.1)
    ours = set(re.findall(r"# TYPE (\S+)", metrics.exposition()))
    others = {
        ":tensorflow:serving:batching_session:queuing_latency",
        ":tensorflow:serving:model_warmup_latency",
        ":tensorflow:cc:saved_model:load_attempt_count",
    }
    texts = (read("prometheus/alerts.yml"), WALK_THROUGH)
    named = {
        re.sub("_(bucket|sum)$", "", metric)
        for text in texts
        for metric in re.findall(r":tensorflow(?::\w+)+", text)
    }
    assert named <= ours | others
    assert len(named) >= 5


def test_lower_casing_is_the_same_everywhere():
    assert CONTAINER["env"] == [{"name": "LC_ALL", "value": "C.UTF-8"}]
    assert COMPOSE["services"]["serving"]["environment"] == {"LC_ALL": "C.UTF-8"}


class StatusServer:
    """Answers every request with one body and keeps the request."""

    def __init__(self, body: str) -> None:
        self.body = body.encode()
        self.request = b""
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    async def _serve(self) -> None:
        done = asyncio.Event()

        async def answer(reader, writer):
            self.request = await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.body)}\r\n\r\n"
            writer.write(head.encode() + self.body)
            await writer.drain()
            writer.close()
            done.set()

        async with await asyncio.start_server(answer, sock=self.listening):
            await asyncio.wait_for(done.wait(), 10)

    def __enter__(self) -> "StatusServer":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join()


@pytest.mark.skipif(sys.platform != "linux", reason="runs bash as the image has it")
@pytest.mark.parametrize("state", ["AVAILABLE", "LOADING"])
def test_health_check_asks_for_the_models_status(state: str):
    marker, *command = COMPOSE["services"]["serving"]["healthcheck"]["test"]
    assert marker == "CMD"
    body = f'{{"model_version_status": [{{"version": "1", "state": "{state}"}}]}}'
    with StatusServer(body) as server:
        here = [part.replace("8501", str(server.port)) for part in command]
        result = subprocess.run(here, timeout=30, capture_output=True, text=True)
    assert result.returncode == int(state != "AVAILABLE"), result.stderr
    request = server.request.decode()
    assert request.startswith("GET /v1/models/reviews HTTP/1.1\r\nHost: ")


def directives(config: str) -> Iterator[str]:
    for line in config.splitlines():
        statement = line.split("#")[0].strip()
        if statement:
            yield statement


def test_proxy_lets_through_predictions_only():
    config = read("proxy/nginx.conf")
    locations = re.findall(r"^    location (.*) \{$", config, re.M)
    assert locations[-1] == "/"
    assert "return 404;" in config.partition("location / {")[2]
    assert "/tensorflow.serving.PredictionService/" in locations
    assert not any("ModelService" in location for location in locations)
    assert config.count("{") == config.count("}")
    for statement in directives(config):
        assert statement.endswith((";", "{", "}")) or "log_format" in statement


def test_proxy_waits_longer_than_the_server():
    config = read("proxy/nginx.conf")
    longest = int(FLAGS["rest_api_timeout_in_ms"]) / 1000
    for kind in ("proxy", "grpc"):
        (seconds,) = re.findall(rf"{kind}_read_timeout (\d+)s;", config)
        assert int(seconds) > longest
    assert f"server serving:{FLAGS['port']};" in config
    assert f"server serving:{FLAGS['rest_api_port']};" in config
    (published,) = COMPOSE["services"]["proxy"]["ports"]
    assert f"listen {published.split(':')[1]} ssl;" in config


@pytest.mark.parametrize(
    ("path", "routed"),
    [
        ("/v1/models/reviews:predict", "/v1/models/reviews/labels/stable:predict"),
        ("/v1/models/a-b.c:classify", "/v1/models/a-b.c/labels/stable:classify"),
        ("/v1/models/reviews/versions/1:predict", None),
        ("/v1/models/reviews/labels/canary:predict", None),
        ("/v1/models/reviews/metadata", None),
        ("/v1/models/reviews:delete", None),
    ],
)
def test_proxy_puts_the_label_in(path: str, routed: str | None):
    config = read("proxy/nginx.conf")
    (pattern,) = re.findall(r"location ~ (\S+) \{", config)
    (target,) = re.findall(r"proxy_pass http://rest(/\S+);", config)
    match = re.fullmatch(pattern.replace("(?<", "(?P<"), path)
    if routed is None:
        assert match is None
        return
    assert match
    for name, value in {**match.groupdict(), "stage": "stable"}.items():
        target = target.replace(f"${name}", value)
    assert target == routed

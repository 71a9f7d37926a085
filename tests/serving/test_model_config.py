"""Which models are served, as a file or a request says it."""

from pathlib import Path

import pytest
from tensorflow_serving.config import model_server_config_pb2

from kbert.errors import ConfigError, ServingError
from kbert.protos import parse_text
from kbert.serving.model_config import (
    check_model_config,
    read_model_config,
    single_model_config,
)
from kbert.serving.status import Code, StatusError

GOOD = """
# Two models.
model_config_list {
  config {
    name: "imdb"
    base_path: "/models/imdb"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 42 versions: 43 } }
    version_labels { key: "stable" value: 42 }
    version_labels { key: "canary" value: 43 }
  }
  config { name: "snli" base_path: "/models/snli" model_type: TENSORFLOW }
}
"""


def test_a_file_is_read(tmp_path: Path):
    file = tmp_path / "models.config"
    file.write_text(GOOD)
    imdb, snli = read_model_config(file).model_config_list.config
    assert imdb.name == "imdb" and imdb.base_path == "/models/imdb"
    assert list(imdb.model_version_policy.specific.versions) == [42, 43]
    assert dict(imdb.version_labels) == {"stable": 42, "canary": 43}
    assert snli.name == "snli"


def test_one_model_is_a_config_too():
    config = single_model_config("imdb", Path("/models/imdb"))
    check_model_config(config)
    (model,) = config.model_config_list.config
    assert model.name == "imdb" and model.base_path == "/models/imdb"
    assert model.model_platform == "tensorflow"


def one(fields: str) -> str:
    return f"model_config_list {{ config {{ {fields} }} }}"


WRONG = {
    "twice": (
        "model_config_list { "
        + 2 * 'config { name: "a" base_path: "/a" model_platform: "tensorflow" } '
        + "}",
        "Illegal to list model a multiple times",
    ),
    "no name": (
        one('base_path: "/a" model_platform: "tensorflow"'),
        "needs a name",
    ),
    "relative": (
        one('name: "a" base_path: "a" model_platform: "tensorflow"'),
        "Expected model a to have an absolute path or URI",
    ),
    "no path": (
        one('name: "a" model_platform: "tensorflow"'),
        "Expected model a to have an absolute path or URI",
    ),
    "no platform": (one('name: "a" base_path: "/a"'), "Illegal setting neither"),
    "two platforms": (
        one('name: "a" base_path: "/a" model_platform: "x" model_type: TENSORFLOW'),
        "Illegal setting both",
    ),
    "other platform": (
        one('name: "a" base_path: "/a" model_platform: "torch"'),
        'must be "tensorflow"; got "torch"',
    ),
    "negative": (
        one(
            'name: "a" base_path: "/a" model_platform: "tensorflow" '
            "model_version_policy { specific { versions: -1 } }"
        ),
        "is negative",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_config_is_refused(name: str, tmp_path: Path):
    text, message = WRONG[name]
    config = parse_text(text, model_server_config_pb2.ModelServerConfig, "test")
    with pytest.raises(StatusError, match=message) as caught:
        check_model_config(config)
    assert caught.value.code is Code.INVALID_ARGUMENT
    file = tmp_path / "models.config"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"models.config: .*{message}"):
        read_model_config(file)


def test_what_only_the_real_server_has_is_said():
    config = single_model_config("a", Path("/a"))
    config.model_config_list.config[0].base_path = "gs://bucket/a"
    with pytest.raises(StatusError, match="folders of this machine") as caught:
        check_model_config(config)
    assert caught.value.code is Code.UNIMPLEMENTED
    config = model_server_config_pb2.ModelServerConfig()
    config.custom_model_config.type_url = "x"
    with pytest.raises(StatusError, match="custom_model_config"):
        check_model_config(config)


def test_a_file_that_is_no_config_is_refused(tmp_path: Path):
    file = tmp_path / "models.config"
    with pytest.raises(ServingError, match="No such file"):
        read_model_config(file)
    file.write_text("model_config_list {\n  nonsense: 1\n}")
    with pytest.raises(ConfigError, match=r"ModelServerConfig.* 2:3"):
        read_model_config(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_model_config(file)


def test_logging_of_requests_is_said_to_have_no_effect(
    caplog: pytest.LogCaptureFixture,
):
    config = single_model_config("imdb", Path("/models/imdb"))
    config.model_config_list.config[0].logging_config.SetInParent()
    check_model_config(config)
    assert "logging_config of model imdb has no effect" in caplog.text

"""The REST application with real models behind it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from kbert.serving.gate import Gate
from kbert.serving.manager import ManagerOptions, ModelManager
from kbert.serving.metrics import Metrics
from kbert.serving.rest import RestApp, RestOptions
from tests.serving.asgi import ask
from tests.serving.models import (
    toy_probabilities,
    write_half_plus_two,
    write_oddities,
    write_toy_classifier,
)

TEXTS = ["a good text", "a bad one", "", "\0", "äöü 日本 😀", "good " * 2000]

CONFIG = """
model_config_list {{
  config {{
    name: "toy" base_path: "{folder}/toy" model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
    version_labels {{ key: "stable" value: 1 }}
    version_labels {{ key: "canary" value: 2 }}
  }}
  config {{ name: "half" base_path: "{folder}/half" model_platform: "tensorflow" }}
  config {{ name: "odd" base_path: "{folder}/odd" model_platform: "tensorflow" }}
}}
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestApp]:
    folder: Path = tmp_path_factory.mktemp("models")
    for name in ("toy", "half", "odd"):
        (folder / name).mkdir()
    write_toy_classifier(folder / "toy", 1)
    write_toy_classifier(folder / "toy", 2, flip=True)
    write_half_plus_two(folder / "half", 7)
    write_oddities(folder / "odd", 1)
    options = ManagerOptions(poll_seconds=0, allow_labels_for_unavailable=True)
    manager = ModelManager(options)
    try:
        config = text_format.Parse(CONFIG.format(folder=folder), ModelServerConfig())
        manager.set_config(config)
        app = RestApp(manager, RestOptions(timeout_seconds=20), Metrics(), Gate(8))
        yield app
        app.close()
    finally:
        manager.close()


def probabilities(flip: bool = False) -> np.ndarray:
    return np.array([toy_probabilities(text.encode(), flip=flip) for text in TEXTS])


@pytest.mark.parametrize(
    ("which", "flip"),
    [
        ("", True),
        ("/versions/1", False),
        ("/labels/stable", False),
        ("/labels/canary", True),
    ],
)
def test_strings_in_labels_out(app: RestApp, which: str, flip: bool):
    body = {"instances": TEXTS}
    response = ask(app, "POST", f"/v1/models/toy{which}:predict", body)
    rows = response.json()["predictions"]
    expected = probabilities(flip)
    np.testing.assert_allclose([r["probabilities"] for r in rows], expected, atol=1e-6)
    np.testing.assert_allclose([r["score"] for r in rows], expected.max(1), atol=1e-6)
    labels = [("neg", "pos")[row.argmax()] for row in expected]
    assert [row["label"] for row in rows] == labels


def test_columns_and_base64(app: RestApp):
    body = {"inputs": {"text": ["a good text", {"b64": "/2dvb2Q="}]}}
    found = ask(app, "POST", "/v1/models/toy/versions/1:predict", body).json()
    expected = [toy_probabilities(b"a good text"), toy_probabilities(b"\xffgood")]
    np.testing.assert_allclose(found["outputs"]["probabilities"], expected, atol=1e-6)
    assert found["outputs"]["label"] == ["pos", "pos"]


def test_classify_and_regress(app: RestApp):
    body = {
        "signature_name": "classify",
        "context": {"text": "unused"},
        "examples": [{"text": text} for text in TEXTS],
    }
    target = "/v1/models/toy/versions/1:classify"
    results = ask(app, "POST", target, body).json()["results"]
    assert [[label for label, _ in row] for row in results] == [["neg", "pos"]] * 6
    scores = [[score for _, score in row] for row in results]
    np.testing.assert_allclose(scores, probabilities(), atol=1e-6)
    body = {"signature_name": "regress", "examples": [{"x": 1.0}, {"x": 5.0}]}
    response = ask(app, "POST", "/v1/models/half:regress", body)
    assert response.json() == {"results": [2.5, 4.5]}


def test_several_inputs(app: RestApp):
    row = {"token_ids": [1, 2], "segment_ids": [0, 0], "padding_mask": [1, 1]}
    body = {"signature_name": "encoded", "instances": [row, row]}
    response = ask(app, "POST", "/v1/models/toy:predict", body)
    assert response.json() == {"predictions": [[0.0, 3.0]] * 2}


@pytest.mark.parametrize(
    ("model", "body", "status", "message"),
    [
        ("toy", {"instances": [["good"]]}, 400, ""),
        ("toy", {"inputs": "good"}, 400, ""),
        ("toy", {"instances": [1]}, 400, "is not of expected type: string"),
        ("toy", {"instances": [{"b64": "*"}]}, 400, "Unable to base64 decode"),
        (
            "toy",
            {"signature_name": "no", "instances": ["a"]},
            400,
            'Serving signature name: "no" not found in signature def',
        ),
        (
            "toy",
            {"signature_name": "classify", "instances": ["no example"]},
            400,
            "",
        ),
        ("toy", {"signature_name": "__saved_model_init_op", "inputs": {}}, 400, ""),
        ("half", {"instances": [[1]]}, 400, ""),
        ("half", {"inputs": [[1], [2, 3]]}, 400, "unexpected size: 2 at level: 1"),
        ("odd", {"signature_name": "scalar", "instances": [1]}, 400, "no shape inform"),
        ("odd", {"signature_name": "checked", "inputs": [-1]}, 400, "negative"),
        ("no", {"instances": [1]}, 404, "Servable not found for request: Latest(no)"),
        ("half/versions/8", {"instances": [1]}, 404, "Specific(half, 8)"),
        ("toy/labels/no", {"instances": ["a"]}, 400, "Unrecognized servable version"),
    ],
)
def test_mistakes(app: RestApp, model: str, body: dict, status: int, message: str):
    response = ask(app, "POST", f"/v1/models/{model}:predict", body)
    assert response.status == status
    assert message in response.error


def test_outputs_that_are_no_batch_come_in_columns(app: RestApp):
    body = {"signature_name": "scalar", "inputs": [1, 2]}
    response = ask(app, "POST", "/v1/models/odd:predict", body)
    assert response.json() == {"outputs": 3.0}


def test_status_and_metadata(app: RestApp):
    found = ask(app, "GET", "/v1/models/toy").json()["model_version_status"]
    assert [(state["version"], state["state"]) for state in found] == [
        ("2", "AVAILABLE"),
        ("1", "AVAILABLE"),
    ]
    (state,) = ask(app, "GET", "/v1/models/half/versions/7").json().popitem()[1]
    assert state["status"] == {"error_code": "OK", "error_message": ""}
    for target in ("no", "half/versions/8"):
        assert ask(app, "GET", f"/v1/models/{target}").status == 404
    found = ask(app, "GET", "/v1/models/toy/labels/stable/metadata").json()
    assert found["model_spec"]["version"] == "1"
    signatures = found["metadata"]["signature_def"]["signature_def"]
    assert {"serving_default", "classify", "encoded"} <= signatures.keys()
    assert signatures["encoded"]["inputs"]["token_ids"]["dtype"] == "DT_INT32"

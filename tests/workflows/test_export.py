"""Export of a real, tiny run: what is in the folder, and that it answers as the run."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

import kbert
from kbert.config import ExportConfig, ExportSettings
from kbert.errors import ExportError, RunError
from kbert.exporting.fresh import FreshServable
from kbert.protos import BatchingParameters, parse_text
from kbert.workflows.export import Export, export


@pytest.fixture(scope="module")
def exported(tiny_run: kbert.Run, tmp_path_factory: pytest.TempPathFactory) -> Export:
    output = tmp_path_factory.mktemp("saved_models") / "tiny"
    return export(tiny_run.path, output, settings=ExportSettings(max_batch_size=8))


@pytest.fixture(scope="module")
def fresh(exported: Export) -> Iterator[FreshServable]:
    with FreshServable(exported.path) as servable:
        yield servable


def ask(fresh: FreshServable, texts: list[str]) -> dict[str, np.ndarray]:
    feeds = {"text": np.array([text.encode() for text in texts], object)}
    return fresh.call("serving_default", feeds)


def test_export_answers_as_the_run(
    exported: Export, fresh: FreshServable, tiny_run: kbert.Run
):
    assert exported.difference <= 1e-5
    texts = ["the film was good", "a bad food", "", " ", "word " * 300, "电影", "a\0b"]
    outputs = ask(fresh, texts)
    for index, answer in enumerate(tiny_run.predict(texts)):
        assert outputs["label"][index].decode() == answer["label"]
        assert outputs["score"][index] == pytest.approx(answer["score"], abs=1e-5)
        np.testing.assert_allclose(
            outputs["probabilities"][index],
            list(answer["probabilities"].values()),
            atol=1e-5,
        )


def test_it_learned_something_and_the_export_knows_it(fresh: FreshServable):
    labels = ask(fresh, ["the film is very good", "the film is very bad"])["label"]
    assert labels.tolist() == [b"pos", b"neg"]


def test_folder_has_what_a_server_reads(exported: Export):
    assert exported.path.name == "1"
    assert sorted(os.listdir(exported.path)) == [
        "assets.extra", "fingerprint.pb", "saved_model.pb", "variables",
    ]  # fmt: skip
    extra = exported.path / "assets.extra"
    config = parse_text(
        (extra / "models.config").read_text(),
        model_server_config_pb2.ModelServerConfig,
        "models.config",
    )
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("tiny", "/models/tiny")
    batching = parse_text(
        (extra / "batching_parameters.txt").read_text(), BatchingParameters, "batching"
    )
    assert batching.max_batch_size.value == 8
    assert not batching.pad_variable_length_inputs
    records = tf.data.TFRecordDataset(str(extra / "tf_serving_warmup_requests"))
    requests = [
        prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        for record in records.as_numpy_iterator()
    ]
    sizes = [
        tf.make_ndarray(request.inputs["text"]).size
        for request in requests
        if request.model_spec.signature_name == "serving_default"
    ]
    names = {request.model_spec.signature_name for request in requests}
    assert names == {"serving_default", "classify", "encoded"}
    assert sorted(set(sizes)) == [1, 2, 4, 8]


def test_card_says_where_it_comes_from(exported: Export, tiny_run: kbert.Run):
    card = json.loads((exported.path / "assets.extra" / "kbert.json").read_text())
    assert card["labels"] == ["neg", "pos"]
    assert card["metrics"] == tiny_run.metrics
    assert card["precision"] == "float32"
    assert card["limits"]["max_length"] == 32
    assert card["limits"]["max_batch_size"] == 8
    assert card["versions"]["tensorflow"] == tf.__version__
    assert card["preset"] == "tiny"
    train = card["data"]["train"]
    assert len(train["source"]["fingerprint"]) == 64
    assert str(tiny_run.path.parent) not in json.dumps(card)


def test_graph_names_no_file_of_this_machine(exported: Export):
    graph = (exported.path / "saved_model.pb").read_bytes()
    for part in (str(Path.cwd()), str(Path.home()), "site-packages"):
        assert part.encode() not in graph


def test_next_version(exported: Export, tiny_run: kbert.Run, tmp_path: Path):
    output = tmp_path / "tiny"
    shutil.copytree(exported.path, output / "4")
    settings = ExportSettings(max_batch_size=1)
    assert export(tiny_run.path, output, settings=settings).path == output / "5"
    with pytest.raises(ExportError, match="has a version 4 already"):
        export(tiny_run.path, output, version=4, settings=settings)


def test_half_precision_answers_in_float32(tiny_run: kbert.Run, tmp_path: Path):
    settings = ExportSettings(precision="bfloat16", max_batch_size=1)
    written = export(tiny_run.path, tmp_path / "tiny", settings=settings)
    assert 1e-5 < written.difference <= 5e-2
    weights = tf.train.list_variables(str(written.path / "variables" / "variables"))
    with FreshServable(written.path) as servable:
        outputs = ask(servable, ["the film is very good"])
    assert outputs["probabilities"].dtype == np.float32
    assert outputs["label"].tolist() == [b"pos"]
    assert weights


def test_an_export_that_answers_otherwise_is_not_published(
    tiny_run: kbert.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    answer = FreshServable.call

    def other(self: FreshServable, signature: str, inputs: dict) -> dict:
        outputs = answer(self, signature, inputs)
        if "probabilities" in outputs:
            outputs["probabilities"] = outputs["probabilities"] + np.float32(2e-5)
        return outputs

    monkeypatch.setattr(FreshServable, "call", other)
    with pytest.raises(ExportError, match="serving_default: probabilities of"):
        export(tiny_run.path, tmp_path / "tiny", settings=ExportSettings())
    assert os.listdir(tmp_path) == []


def test_mistakes_are_found_before_anything_is_loaded(tmp_path: Path):
    with pytest.raises(RunError, match="no such folder"):
        export(tmp_path / "none", tmp_path / "tiny", settings=ExportSettings())
    with pytest.raises(ExportError, match="named like a version"):
        export(tmp_path / "none", tmp_path / "3", settings=ExportSettings())


@pytest.mark.parametrize(
    ("error", "number"),
    [
        (tf.errors.ResourceExhaustedError(None, None, "no space"), errno.ENOSPC),
        (tf.errors.UnavailableError(None, None, "disk is gone"), errno.EIO),
    ],
)
def test_a_disk_that_fails_is_named(
    tiny_run: kbert.Run, tmp_path: Path, monkeypatch, error, number
):
    def save(*arguments, **options):
        Path(arguments[1], "half").write_text("")
        raise error

    monkeypatch.setattr(tf.saved_model, "save", save)
    with pytest.raises(OSError, match="tiny") as caught:
        export(tiny_run.path, tmp_path / "tiny", settings=ExportSettings())
    assert caught.value.errno == number
    assert os.listdir(tmp_path) == []


def test_settings_have_one_place():
    assert ExportConfig().export == ExportSettings()

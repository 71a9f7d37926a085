"""Points on the files of an export, each with a file that is wrong there."""

import gzip
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from kbert.exporting import warmup
from kbert.exporting.checks import warmup_file
from tests.exporting.toy_export import edit_json

WARMUP = "tf_serving_warmup_requests"


class TestFolder:
    def test_named_by_no_number(self, checked):
        checked.folder = checked.folder.rename(checked.folder.with_name("v1"))
        assert set(checked.failing()) == {1}

    def test_half_a_version_beside_it(self, checked):
        (checked.folder.parent / "2").mkdir()
        failing = checked.failing()
        assert set(failing) == {1}
        assert "version 2 beside it" in failing[1]

    def test_what_is_hidden_beside_it_does_not_matter(self, checked):
        (checked.folder.parent / ".export-7").mkdir()
        (checked.folder.parent / "README").write_text("")
        shutil.copytree(checked.folder, checked.folder.parent / "2")
        assert checked.failing() == {}

    @pytest.mark.parametrize("name", ["variables", "variables/variables.index"])
    def test_closed_to_others(self, checked, name: str):
        (checked.folder / name).chmod(0o700)
        failing = checked.failing()
        assert set(failing) == {1}
        assert name in failing[1]

    @pytest.mark.parametrize(
        "name", ["variables.data-00000-of-00001", "variables.index"]
    )
    def test_no_variables(self, checked, name: str):
        (checked.folder / "variables" / name).unlink()
        failing = checked.failing()
        assert set(failing) == {2}
        assert name in failing[2]

    def test_no_graph(self, checked):
        (checked.folder / "saved_model.pb").unlink()
        assert set(checked.failing()) == {2}

    def test_graph_cut_off(self, checked):
        file = checked.folder / "saved_model.pb"
        file.write_bytes(file.read_bytes()[:-100])
        points = checked.points()
        assert [n for n, p in points.items() if p.status == "fail"] == [2]
        assert "cut off" in points[2].detail
        assert points[3].status == "skip"
        assert "point 2" in points[3].detail

    def test_chunked_graph(self, checked):
        (checked.folder / "saved_model.cpb").write_bytes(b"")
        assert set(checked.failing()) == {2}


def write_records(file, records) -> None:
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record)


def read_records(file) -> list[bytes]:
    return list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())


class TestWarmup:
    def test_compressed(self, checked):
        file = checked.extra / WARMUP
        file.write_bytes(gzip.compress(file.read_bytes()))
        points = checked.points()
        assert [n for n, p in points.items() if p.status == "fail"] == [31]
        assert points[32].status == points[33].status == "skip"

    def test_cut_off(self, checked):
        file = checked.extra / WARMUP
        file.write_bytes(file.read_bytes()[:-3])
        assert set(checked.failing()) == {31}

    @pytest.mark.parametrize("count", [0, 1001])
    def test_number_of_records(self, checked, count: int):
        file = checked.extra / WARMUP
        write_records(file, read_records(file)[:1] * count)
        assert set(checked.failing()) == {31}

    def test_no_predict_log(self, checked):
        log = prediction_log_pb2.PredictionLog(
            session_run_log=prediction_log_pb2.SessionRunLog()
        )
        write_records(checked.extra / WARMUP, [log.SerializeToString()])
        failing = checked.failing()
        assert set(failing) == {31}
        assert "session_run_log" in failing[31]

    def test_lost(self, checked):
        (checked.extra / WARMUP).unlink()
        assert set(checked.failing()) == {31}

    @pytest.mark.parametrize(
        ("signature", "inputs", "message"),
        [
            ("nothing", {"text": np.array([b"a"], object)}, "'nothing'"),
            ("serving_default", {"texts": np.array([b"a"], object)}, "texts"),
            ("serving_default", {"text": np.array([1])}, "int64"),
            ("serving_default", {"text": np.array([[b"a"]], object)}, "(1, 1)"),
            ("serving_default", {"text": np.array([b"a"] * 5, object)}, "5 rows"),
            ("classify", {"inputs": np.array([b"\x01"], object)}, "fails"),
        ],
    )
    def test_request_that_fails(self, checked, signature, inputs, message):
        shapes = [(1, 16), (4, 32)]
        good = list(warmup.requests(shapes, ["text"], signature="serving_default"))
        warmup.write_warmup(checked.extra / WARMUP, "toy", [*good, (signature, inputs)])
        failing = checked.failing()
        assert set(failing) == {32}
        assert "record 2" in failing[32]
        assert message in failing[32]

    @pytest.mark.parametrize(
        ("shapes", "message"),
        [([(1, 16), (1, 32)], "has 4 texts"), ([(1, 32), (4, 32)], "to 16 tokens")],
    )
    def test_what_is_not_covered(self, checked, shapes, message: str):
        calls = warmup.requests(shapes, ["text"], signature="serving_default")
        warmup.write_warmup(checked.extra / WARMUP, "toy", calls)
        failing = checked.failing()
        assert set(failing) == {33}
        assert message in failing[33]

    def test_takes_too_long(self, checked, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(warmup_file, "_MOST_SECONDS", 0.0)
        failing = checked.failing()
        assert set(failing) == {33}
        assert "1 of 6 requests" in failing[33]


class TestServerFiles:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("max_batch_size { value: 4 } pad_variable_length_inputs: true", "[CLS]"),
            ("max_batch_size { value: 4 } allowed_batch_sizes: [2, 1, 4]", "2, 1, 4"),
            ("max_batch_size { value: 4 } allowed_batch_sizes: [1, 2]", "end at"),
            ("max_batch_size { value: 0 }", "at least 1"),
            ("max_batch_size: 4", "batching_parameters.txt is no"),
        ],
    )
    def test_batching(self, checked, text: str, message: str):
        (checked.extra / "batching_parameters.txt").write_text(text)
        failing = checked.failing()
        assert set(failing) == {34}
        assert message in failing[34]

    def test_batching_of_one_model(self, checked):
        file = checked.folder / "batching_params.pbtxt"
        splitting = "enable_large_batch_splitting { value: true } "
        file.write_text(
            f"{splitting} max_batch_size {{ value: 8 }} "
            "max_execution_batch_size { value: 4 } allowed_batch_sizes: [1, 4]"
        )
        assert checked.failing() == {}
        file.write_text("max_batch_size { value: 4 } allowed_batch_sizes: 3")
        assert set(checked.failing()) == {34}

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ('"/models/toy"', '"models/toy"', "'models/toy'"),
            ('"tensorflow"', '"onnx"', "'onnx'"),
            ('"toy"', '""', "a name of its own"),
            ("model_config_list", "models", "models.config is no"),
            ("config {", "config { } config {", "base_path"),
        ],
    )
    def test_model_config(self, checked, old: str, new: str, message: str):
        file = checked.extra / "models.config"
        file.write_text(file.read_text().replace(old, new))
        failing = checked.failing()
        assert set(failing) == {35}
        assert message in failing[35]

    def test_name_twice(self, checked):
        file = checked.extra / "models.config"
        text = file.read_text()
        model = text[text.index("config {") : text.rindex("}")]
        file.write_text(text.replace("config {", f"{model} config {{", 1))
        assert "toy is" in checked.failing()[35]

    def test_none_shipped(self, checked):
        (checked.extra / "batching_parameters.txt").unlink()
        (checked.extra / "models.config").unlink()
        assert set(checked.failing()) == {34, 35}
        # Others than kbert need not ship them.
        (checked.extra / "kbert.json").unlink()
        points = checked.points()
        assert points[34].status == points[35].status == "skip"


class TestCard:
    def test_lost(self, checked):
        (checked.extra / "kbert.json").unlink()
        # Nothing says either that a server must not pad.
        assert set(checked.failing()) == {25, 36}

    def test_no_object(self, checked):
        (checked.extra / "kbert.json").write_text("[1]")
        assert 36 in checked.failing()

    @pytest.mark.parametrize(
        ("package", "version", "message"),
        [
            ("keras", None, "lacks versions of keras"),
            ("tensorflow-text", "2.20.0", "2.20.0 is broken"),
        ],
    )
    def test_versions(self, checked, package, version, message: str):
        def change(card):
            card["versions"][package] = version

        edit_json(checked.extra / "kbert.json", change)
        failing = checked.failing()
        assert set(failing) == {36}
        assert message in failing[36]

    @pytest.mark.parametrize(
        "serving",
        [
            {"minimum": "2.12", "recommended": "2.19"},
            {"minimum": "3.1", "recommended": "2.21"},
            {"minimum": "2.12", "recommended": "latest"},
            {},
        ],
    )
    def test_server(self, checked, serving):
        edit_json(
            checked.extra / "kbert.json",
            lambda card: card.update(tensorflow_serving=serving),
        )
        assert set(checked.failing()) == {37}

"""One loaded version: what it answers, what it refuses, what it leaves behind."""

import gc
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from kbert.protos import BatchingParameters
from kbert.serving.servable import LoadOptions, Servable
from kbert.serving.status import Code, StatusError
from tests.serving import models

Edit = Callable[[saved_model_pb2.SavedModel], None]


def strings(*values: bytes) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.fixture(scope="module")
def half_plus_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.write_half_plus_two(tmp_path_factory.mktemp("half_plus_two"), 1)


@pytest.fixture(scope="module")
def oddities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servable]:
    path = models.write_oddities(tmp_path_factory.mktemp("oddities"), 1)
    servable = Servable.load("oddities", 1, path, LoadOptions())
    yield servable
    servable.close()


@pytest.fixture
def copy(half_plus_two: Path, tmp_path: Path) -> Path:
    """A version to break."""
    return Path(shutil.copytree(half_plus_two, tmp_path / "1"))


def load(path: Path, **options) -> Servable:
    return Servable.load("m", 1, path, LoadOptions(**options))


def test_answers_what_its_signatures_say(half_plus_two: Path):
    servable = load(half_plus_two)
    try:
        assert {"serving_default", "two_outputs", "regress", "square"} < set(
            servable.signatures
        )
        found = servable.run("two_outputs", {"x": floats(1, 2, 5)}, ["z", "y"], 10.0)
        assert list(found) == ["z", "y"]
        np.testing.assert_array_equal(found["z"], floats(3, 6, 15))
        np.testing.assert_array_equal(found["y"], floats(2.5, 3, 4.5))
        assert found["y"].dtype == np.float32
        # Some outputs only, and no deadline.
        assert list(servable.run("two_outputs", {"x": floats(1)}, ["y"], None)) == ["y"]
    finally:
        servable.close()


def test_strings_are_bytes_of_any_kind(tmp_path: Path):
    servable = load(models.write_toy_classifier(tmp_path, 1))
    texts = [
        b"",
        b"good",
        b"a\0b\0",
        b"\xff\xfe good",
        "schön 😀".encode(),
        b"x" * 10**4,
    ]
    try:
        found = servable.run(
            "serving_default",
            {"text": strings(*texts)},
            ["label", "score", "probabilities"],
            10.0,
        )
    finally:
        servable.close()
    expected = [models.toy_probabilities(text) for text in texts]
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)
    np.testing.assert_allclose(found["score"], np.max(expected, axis=1), atol=1e-6)
    assert found["label"].tolist() == [
        models.LABELS[np.argmax(row)].encode() for row in expected
    ]


def test_a_single_number_stays_an_array(oddities: Servable):
    found = oddities.run("scalar", {"x": floats(1, 2)}, ["y"], None)
    assert found["y"].shape == () and found["y"] == 3


def test_a_deadline_ends_a_run(oddities: Servable):
    with pytest.raises(StatusError) as caught:
        oddities.run("slow", {"x": floats(1)}, ["y"], 0.05)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    # It goes on answering.
    found = oddities.run("serving_default", {"x": floats(7)}, ["y"], 10.0)
    assert found["y"] == [7]


def test_an_error_of_the_graph_keeps_its_code_and_message(oddities: Servable):
    with pytest.raises(StatusError) as caught:
        oddities.run("checked", {"x": floats(-1)}, ["y"], 10.0)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message.startswith("assertion failed: [negative]")


@pytest.mark.parametrize(
    "value",
    [np.zeros((2, 2), np.float32), np.array(["a"], object), np.float32(1)],
    ids=["shape", "type", "rank"],
)
def test_a_value_that_does_not_fit_is_the_clients_mistake(
    oddities: Servable, value: np.ndarray
):
    with pytest.raises(StatusError) as caught:
        oddities.run("serving_default", {"x": value}, ["y"], 10.0)
    assert caught.value.code is Code.INVALID_ARGUMENT


def test_many_threads_get_their_own_answers(half_plus_two: Path):
    parameters = BatchingParameters()
    parameters.batch_timeout_micros.value = 1000
    for batching in (None, parameters):
        servable = load(half_plus_two, batching=batching)
        wrong = []

        def ask(number: int, servable: Servable = servable, wrong: list = wrong):
            for turn in range(20):
                value = float(100 * number + turn)
                found = servable.run("serving_default", {"x": floats(value)}, ["y"], 30)
                if found["y"].tolist() != [models.half_plus_two(value)]:
                    wrong.append((value, found))

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        servable.close()
        assert wrong == []


# What is broken on disk.


def edit(path: Path, change: Edit) -> None:
    model = saved_model_pb2.SavedModel()
    model.ParseFromString((path / "saved_model.pb").read_bytes())
    change(model)
    (path / "saved_model.pb").write_bytes(model.SerializeToString())


def use_unknown_operation_in_function(model: saved_model_pb2.SavedModel) -> None:
    for function in model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "AddV2":
                node.op = "NoSuchOperation"
                return
    raise AssertionError("no node to change")


def use_unknown_operation_in_graph(model: saved_model_pb2.SavedModel) -> None:
    node = model.meta_graphs[0].graph_def.node.add()
    node.name, node.op = "fold", "NoSuchOperation"


def remove_tag(model: saved_model_pb2.SavedModel) -> None:
    model.meta_graphs[0].meta_info_def.tags.pop()


def truncate(path: Path, pattern: str, size: int) -> None:
    (file,) = path.glob(pattern)
    os.truncate(file, size)


def remove(path: Path, pattern: str) -> None:
    (file,) = path.glob(pattern)
    file.unlink()


def replace_by_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("no folder")


BREAKAGES = {
    "no saved_model.pb": (
        lambda path: remove(path, "saved_model.pb"),
        Code.NOT_FOUND,
        "Could not find SavedModel .pb or .pbtxt",
    ),
    "file for folder": (replace_by_file, Code.NOT_FOUND, "Could not find SavedModel"),
    "gone": (shutil.rmtree, Code.NOT_FOUND, "Could not find SavedModel"),
    "truncated graph": (
        lambda path: truncate(path, "saved_model.pb", 500),
        Code.DATA_LOSS,
        "Cannot parse file",
    ),
    "empty graph": (
        lambda path: truncate(path, "saved_model.pb", 0),
        Code.NOT_FOUND,
        "'serve' could not be found",
    ),
    "no variables": (
        lambda path: shutil.rmtree(path / "variables"),
        Code.FAILED_PRECONDITION,
        "not a valid checkpoint",
    ),
    "truncated variables": (
        lambda path: truncate(path, "variables/*.data-*", 1),
        Code.OUT_OF_RANGE,
        "Read less bytes",
    ),
    "truncated index": (
        lambda path: truncate(path, "variables/*.index", 20),
        Code.DATA_LOSS,
        "too short",
    ),
    "no tag": (
        lambda path: edit(path, remove_tag),
        Code.NOT_FOUND,
        "'serve' could not be found",
    ),
    "operation missing in a function": (
        lambda path: edit(path, use_unknown_operation_in_function),
        Code.NOT_FOUND,
        "Op type not registered 'NoSuchOperation'",
    ),
    "operation missing in the graph": (
        lambda path: edit(path, use_unknown_operation_in_graph),
        Code.NOT_FOUND,
        "Op type not registered 'NoSuchOperation'",
    ),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_what_is_broken_is_refused_with_its_reason(name: str, copy: Path):
    breaks, code, message = BREAKAGES[name]
    breaks(copy)
    with pytest.raises(StatusError, match=message) as caught:
        load(copy)
    assert caught.value.code is code


def test_what_may_not_be_read_is_refused(copy: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    # Root may read everything, and tests may be run by root.
    monkeypatch.setattr(Path, "is_file", refuse)
    with pytest.raises(StatusError, match=r"denied.*saved_model\.pb") as caught:
        load(copy)
    assert caught.value.code is Code.PERMISSION_DENIED


CHECK_LIBRARIES = """
import sys
from tensorflow.python.framework import op_def_registry
from kbert.serving import manager, op_libraries
op_libraries.register()
needed = ["FastWordpieceTokenizeWithOffsets", "RegexSplitWithOffsets", "NormalizeUTF8"]
assert all(op_def_registry.get(name) is not None for name in needed)
assert op_def_registry.get("TFText>RoundRobinTrim") is None
heavy = {"keras_hub", "tensorflow_text"} & set(sys.modules)
assert not heavy, heavy
"""


def test_only_portable_operations_of_tensorflow_text_are_registered():
    subprocess.run([sys.executable, "-c", CHECK_LIBRARIES], check=True)


# Warm-up.


def half_log(*values: float, signature: str = "serving_default"):
    return models.predict_log({"x": floats(*values)}, signature)


def count_runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The signatures that are run from now on."""
    run, names = Servable.run, []

    def counted(self, signature_name, *rest):
        names.append(signature_name)
        return run(self, signature_name, *rest)

    monkeypatch.setattr(Servable, "run", counted)
    return names


def test_warmup_records_are_run_before_it_is_there(
    copy: Path, monkeypatch: pytest.MonkeyPatch
):
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(1.0)
    log = prediction_log_pb2.PredictionLog()
    regress = log.regress_log.request
    regress.model_spec.signature_name = "regress"
    regress.input.example_list.examples.append(example)
    several = prediction_log_pb2.PredictionLog()
    several.multi_inference_log.request.input.CopyFrom(regress.input)
    task = several.multi_inference_log.request.tasks.add()
    task.model_spec.signature_name = "regress"
    task.method_name = "tensorflow/serving/regress"
    logs = [half_log(1, 2), half_log(3, signature="two_outputs"), log, several]
    models.write_warmup_records(copy, logs)
    names = count_runs(monkeypatch)
    load(copy, warmup_iterations=2, batching=BatchingParameters()).close()
    expected = ["serving_default", "two_outputs", "regress", "regress"]
    assert names == [name for name in expected for _ in range(2)]
    names.clear()
    load(copy, warmup=False).close()
    assert names == []


def test_classification_warms_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = models.write_toy_classifier(tmp_path, 1)
    example = tf.train.Example()
    example.features.feature["text"].bytes_list.value.append(b"good")
    log = prediction_log_pb2.PredictionLog()
    classify = log.classify_log.request
    classify.model_spec.signature_name = "classify"
    classify.input.example_list_with_context.context.CopyFrom(example)
    classify.input.example_list_with_context.examples.add()
    models.write_warmup_records(path, [log])
    names = count_runs(monkeypatch)
    load(path).close()
    assert names == ["classify"]


def test_an_empty_warmup_file_is_none(copy: Path, monkeypatch: pytest.MonkeyPatch):
    models.write_warmup_records(copy, [])
    names = count_runs(monkeypatch)
    load(copy).close()
    assert names == []


def stream_log() -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    log.session_run_log.request.feed.add(name="x")
    return log


WRONG_WARMUPS = {
    "no record": ([b"\xff\xff\xff"], "Failed to parse warmup record"),
    "signature": ([half_log(1, signature="nope")], '"nope" not found'),
    "type": ([models.predict_log({"x": np.zeros(2)})], "DT_FLOAT|float"),
    "kind": ([stream_log()], "Unsupported log_type for warmup: session_run_log"),
    "empty": ([prediction_log_pb2.PredictionLog()], "Unsupported log_type"),
    "too many": ([half_log(1)] * 1001, "exceeds the maximum"),
    "too large": ([half_log(*range(9))], "Task size 9 is larger than maximum"),
}


@pytest.mark.parametrize("name", WRONG_WARMUPS)
def test_a_warmup_record_that_fails_fails_the_loading(name: str, copy: Path):
    logs, message = WRONG_WARMUPS[name]
    models.write_raw_records(
        copy,
        [log if isinstance(log, bytes) else log.SerializeToString() for log in logs],
    )
    parameters = BatchingParameters()
    parameters.max_batch_size.value = 8
    with pytest.raises(StatusError, match=message):
        load(copy, batching=parameters)


def test_a_truncated_warmup_file_fails_the_loading(copy: Path):
    file = models.write_warmup_records(copy, [half_log(1)])
    os.truncate(file, file.stat().st_size - 3)
    with pytest.raises(StatusError, match="tf_serving_warmup_requests"):
        load(copy)


def test_wrong_batching_parameters_fail_the_loading(half_plus_two: Path):
    parameters = BatchingParameters(allowed_batch_sizes=[4, 2])
    with pytest.raises(StatusError, match="increase") as caught:
        load(half_plus_two, batching=parameters)
    assert caught.value.code is Code.INVALID_ARGUMENT


# What stays behind.


def resident_bytes() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def cycle(path: Path, times: int) -> None:
    for _ in range(times):
        servable = load(path, batching=BatchingParameters())
        servable.run("serving_default", {"x": floats(1, 2)}, ["y"], 10.0)
        servable.close()


def check_for_leaks(folder: Path, times: int) -> None:
    # 4 MB of weights: what stayed of a version would show.
    path = models.write_half_plus_two(folder, 1, num_unused_weights=1_000_000)
    models.write_warmup_records(path, [half_log(1)])
    cycle(path, 3)
    before, num_threads = resident_bytes(), threading.active_count()
    cycle(path, times)
    assert threading.active_count() == num_threads
    assert resident_bytes() - before < 10 * 2**20


def test_nothing_stays_behind_after_20_versions(tmp_path: Path):
    check_for_leaks(tmp_path, 20)


@pytest.mark.slow
def test_nothing_stays_behind_after_200_versions(tmp_path: Path):
    check_for_leaks(tmp_path, 200)


def test_nothing_stays_behind_after_failures(tmp_path: Path):
    path = models.write_half_plus_two(tmp_path, 1, num_unused_weights=4_000_000)
    models.write_warmup_records(path, [half_log(1, signature="nope")])

    def fail(times: int) -> int:
        for _ in range(times):
            with pytest.raises(StatusError):
                load(path)
        return resident_bytes()

    before = fail(2)
    assert fail(8) - before < 40 * 2**20

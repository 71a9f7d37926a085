"""Exports whose graph reaches out, or whose files lie elsewhere; and honest ones."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kbert.errors import ExportError
from kbert.exporting.fresh import FreshServable
from kbert.exporting.safety import check_export
from kbert.serving.request_limits import RequestLimits
from kbert.serving.servable import LoadOptions, Servable
from kbert.serving.status import StatusError
from tests.exporting.toy_export import write_toy_export
from tests.security.folders import nothing_changes
from tests.serving import models

Graph = Callable[[Any, Path], Any]


def _save(function: Callable[[Any], Any], folder: Path) -> Path:
    """A SavedModel with one signature, text [-1] -> y [-1]."""
    traced = tf.function(function, autograph=False)
    spec = tf.TensorSpec([None], tf.string, name="text")
    signature = traced.get_concrete_function(text=spec)
    tf.saved_model.save(tf.Module(), str(folder), signatures=signature)
    return folder


def _doing(effect: Callable[[Path], Any]) -> Callable[[Path], Callable[..., Any]]:
    """A signature that does something first."""

    def make(outside: Path) -> Callable[..., Any]:
        def function(text: Any) -> Any:
            with tf.control_dependencies([effect(outside)]):
                return {"y": tf.identity(text)}

        return function

    return make


def _in_a_branch(outside: Path) -> Callable[..., Any]:
    def function(text: Any) -> Any:
        def write() -> Any:
            done = tf.io.write_file(str(outside / "w"), "x")
            with tf.control_dependencies([done]):
                return tf.constant(1)

        tf.cond(tf.size(text) > 0, write, lambda: tf.constant(0))
        return {"y": tf.identity(text)}

    return function


def _dataset(outside: Path) -> Any:
    found = tf.data.TextLineDataset(str(outside / "secret"))
    return found.reduce(tf.constant(0), lambda a, b: a + 1)


_RAW = tf.raw_ops
REACHING_OUT: dict[str, Callable[[Path], Callable[..., Any]]] = {
    "writes a file": _doing(lambda out: tf.io.write_file(str(out / "w"), "x")),
    "writes a file in a branch": _in_a_branch,
    "reads a file": lambda out: lambda text: {
        "y": tf.io.read_file(str(out / "secret")) + text
    },
    "looks for files": _doing(lambda out: tf.io.matching_files(f"{out}/*")),
    "reads lines": _doing(_dataset),
    "prints to a file": _doing(
        lambda out: tf.print("x", output_stream=f"file://{out}/w")
    ),
    "saves a checkpoint": _doing(
        lambda out: _RAW.SaveV2(
            prefix=str(out / "w"), tensor_names=["a"], shape_and_slices=[""],
            tensors=[tf.constant(1.0)],
        )
    ),
    "deletes checkpoints": _doing(
        lambda out: _RAW.MergeV2Checkpoints(
            checkpoint_prefixes=[str(out / "a")], destination_prefix=str(out / "b"),
            delete_old_dirs=True,
        )
    ),
    "reads whole files": _doing(
        lambda out: _RAW.ReaderReadV2(
            reader_handle=_RAW.WholeFileReaderV2(),
            queue_handle=_RAW.FIFOQueueV2(component_types=[tf.string]),
        ).key
    ),
    "reads a descriptor of messages": lambda out: lambda text: {
        "y": _RAW.EncodeProto(
            sizes=[[1]], values=[tf.constant([[1]], tf.int64)], field_names=["a"],
            message_type="m", descriptor_source=str(out / "secret"),
        ) + text
    },
    "writes a summary": _doing(
        lambda out: _RAW.CreateSummaryFileWriter(
            writer=_RAW.SummaryWriter(), logdir=str(out), max_queue=1,
            flush_millis=1, filename_suffix="w",
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REACHING_OUT)
def test_a_graph_that_reaches_out_is_not_loaded(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret\n")
    folder = _save(REACHING_OUT[name](outside), tmp_path / "models" / "m" / "1")
    with nothing_changes(outside):
        with pytest.raises(ExportError, match="reach files or other programs"):
            check_export(folder)
        with pytest.raises(StatusError, match="reach files or other programs"):
            Servable.load("m", 1, folder, LoadOptions())


def test_a_fresh_process_is_not_asked_to_load_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = _save(REACHING_OUT["writes a file"](outside), tmp_path / "1")
    with (
        pytest.raises(ExportError, match="WriteFile"),
        FreshServable(folder),
    ):
        pytest.fail("it was loaded")


def test_an_initializer_that_writes_is_not_run(tmp_path: Path) -> None:
    folder = models.write_half_plus_two(tmp_path / "m", 1)
    file = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    nodes = model.meta_graphs[0].graph_def.node
    for name, text in (("evil/name", str(tmp_path / "w")), ("evil/text", "x")):
        node = nodes.add(name=name, op="Const")
        node.attr["dtype"].type = tf.string.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(text))
    nodes.add(name="evil", op="WriteFile", input=["evil/name", "evil/text"])
    collection = model.meta_graphs[0].collection_def["saved_model_main_op"]
    collection.node_list.value.append("evil")
    file.write_bytes(model.SerializeToString())
    with pytest.raises(StatusError, match="WriteFile"):
        Servable.load("m", 1, folder, LoadOptions())
    assert not (tmp_path / "w").exists()


def test_an_initializer_of_todays_kind(tmp_path: Path) -> None:
    """TensorFlow 2 names it as a signature, `__saved_model_init_op`."""
    folder = models.write_half_plus_two(tmp_path / "m", 1)
    file = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    graph = model.meta_graphs[0]
    graph.graph_def.node.add(name="evil", op="ReadFile", input=["evil/name"])
    signature = graph.signature_def["__saved_model_init_op"]
    signature.outputs["__saved_model_init_op"].name = "evil"
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ExportError, match="ReadFile"):
        check_export(folder)


def test_python_of_the_one_who_exported_is_not_there(tmp_path: Path) -> None:
    def call(text: Any) -> Any:
        return {"y": tf.numpy_function(_write_canary, [text], tf.string)}

    folder = _save(call, tmp_path / "1")
    with FreshServable(folder) as fresh, pytest.raises(ExportError, match="pyfunc"):
        fresh.call("serving_default", {"text": np.array([b"x"], object)})


def _write_canary(text: Any) -> Any:
    raise AssertionError("it was called")


HONEST: dict[str, Callable[[Path], Path]] = {
    "half plus two": lambda folder: models.write_half_plus_two(folder, 1),
    "toy classifier": lambda folder: models.write_toy_classifier(folder, 1),
    "oddities": lambda folder: models.write_oddities(folder, 1),
    "kbert's tokenizer": lambda folder: write_toy_export(folder / "1"),
    "a table of a vocabulary": lambda folder: _write_table(folder / "1"),
}


def _write_table(folder: Path) -> Path:
    vocabulary = folder.parent / "words.txt"
    vocabulary.parent.mkdir(parents=True, exist_ok=True)
    vocabulary.write_text("a\nb\n")
    module = tf.Module()
    module.table = tf.lookup.StaticVocabularyTable(
        tf.lookup.TextFileInitializer(
            str(vocabulary), tf.string, tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        1,
    )  # fmt: skip
    function = tf.function(lambda text: {"y": module.table.lookup(text)})
    spec = tf.TensorSpec([None], tf.string, name="text")
    signature = function.get_concrete_function(text=spec)
    tf.saved_model.save(module, str(folder), signatures=signature)
    return folder


@pytest.mark.parametrize("name", HONEST)
def test_honest_models_are_let_in(tmp_path: Path, name: str) -> None:
    folder = HONEST[name](tmp_path / "m")
    check_export(folder)
    Servable.load("m", 1, folder, LoadOptions()).close()


def _move_out(folder: Path, name: str, outside: Path) -> None:
    shutil.move(folder / name, outside / "moved")
    (folder / name).symlink_to(outside / "moved")


LINKS = ("variables", "variables/variables.index", "saved_model.pb")


@pytest.mark.parametrize("name", LINKS)
def test_files_that_are_links_out(tmp_path: Path, name: str) -> None:
    folder = models.write_half_plus_two(tmp_path / "models" / "m", 1)
    (tmp_path / "outside").mkdir()
    _move_out(folder, name, tmp_path / "outside")
    with pytest.raises(ExportError, match=f"{Path(name).name} leads out"):
        check_export(folder, root=folder.parent)
    with pytest.raises(StatusError, match="leads out of its folder"):
        Servable.load("m", 1, folder, LoadOptions())


def test_links_that_deployments_make(tmp_path: Path) -> None:
    """Inside of the model's folder, as a ConfigMap has them; or the version itself."""
    models.write_half_plus_two(tmp_path / "m" / "..data", 1)
    (tmp_path / "m" / "1").symlink_to("..data/1")
    Servable.load("m", 1, tmp_path / "m" / "1", LoadOptions()).close()
    (tmp_path / "n").mkdir()
    (tmp_path / "n" / "1").symlink_to(tmp_path / "m" / "..data" / "1")
    Servable.load("n", 1, tmp_path / "n" / "1", LoadOptions()).close()


@pytest.mark.parametrize("asset", ["../../secret", "/etc/passwd", "a/../../../x"])
def test_assets_that_lie_elsewhere(tmp_path: Path, asset: str) -> None:
    folder = _write_table(tmp_path / "m" / "1")
    file = folder / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    model.meta_graphs[0].asset_file_def[0].filename = asset
    file.write_bytes(model.SerializeToString())
    with pytest.raises(StatusError, match="leads out of its folder"):
        Servable.load("m", 1, folder, LoadOptions())


def test_a_graph_that_is_not_looked_at_is_not_loaded(tmp_path: Path) -> None:
    folder = models.write_half_plus_two(tmp_path / "m", 1)
    shutil.copy(folder / "saved_model.pb", folder / "saved_model.cpb")
    with pytest.raises(StatusError, match="in several parts"):
        Servable.load("m", 1, folder, LoadOptions())


# === what a request may ask for ===


def test_rows_and_texts_of_a_request_are_bounded(tmp_path: Path) -> None:
    folder = models.write_toy_classifier(tmp_path / "m", 1)
    limits = RequestLimits(max_rows=3, max_text_bytes=10)
    servable = Servable.load("m", 1, folder, LoadOptions(limits=limits))
    try:

        def ask(*texts: bytes) -> int:
            inputs = {"text": np.array(texts, object)}
            outputs = servable.run("serving_default", inputs, ["score"], 10.0)
            return len(outputs["score"])

        assert ask(b"a" * 10, b"b", b"") == 3
        with pytest.raises(StatusError, match=r"4 rows, more than .* limit of 3"):
            ask(b"a", b"b", b"c", b"d")
        with pytest.raises(StatusError, match=r"11 bytes, more than .* limit of 10"):
            ask(b"a" * 11)
    finally:
        servable.close()


NUM_CASES = len(REACHING_OUT) + len(LINKS) + 3 + 5

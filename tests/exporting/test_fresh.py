"""The fresh process: what it has, what it has not, and what ends it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from kbert.errors import ExportError
from kbert.exporting.fresh import FreshServable
from tests.serving.models import write_oddities


def strings(*values: bytes) -> dict[str, np.ndarray]:
    return {"x": np.array(values, object)}


def shout(texts: np.ndarray) -> np.ndarray:
    return np.array([text.upper() for text in texts], object)


def in_python(x):
    return tf.ensure_shape(tf.numpy_function(shout, [x], tf.string), x.shape)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that echoes, prints, needs Python, and does not end."""
    folder = tmp_path_factory.mktemp("odd") / "1"
    text = tf.TensorSpec([None], tf.string, name="x")

    @tf.function(input_signature=[text])
    def echo(x):
        return {"y": tf.identity(x), "length": tf.strings.length(x)}

    @tf.function(input_signature=[text])
    def loud(x):
        tf.print("on stdout", output_stream=sys.stdout)
        return {"y": tf.identity(x)}

    @tf.function(input_signature=[text])
    def python(x):
        return {"y": in_python(x)}

    tf.saved_model.save(
        tf.Module(), str(folder), {"echo": echo, "loud": loud, "python": python}
    )
    return folder


@pytest.fixture(scope="module")
def fresh(folder: Path) -> Iterator[FreshServable]:
    with FreshServable(folder) as servable:
        yield servable


def test_any_bytes_go_through(fresh: FreshServable):
    texts = (b"", b"a\x00b", b"\xff\xfe", "\u7535\n".encode(), b"x" * 100_000)
    outputs = fresh.call("echo", strings(*texts))
    assert outputs["y"].tolist() == list(texts)
    assert outputs["length"].tolist() == [len(text) for text in texts]
    assert outputs["length"].dtype == np.int32
    assert fresh.call("echo", strings())["y"].shape == (0,)


def test_a_graph_that_prints_does_not_disturb(fresh: FreshServable):
    assert fresh.call("loud", strings(b"a"))["y"].tolist() == [b"a"]


def test_python_of_the_one_who_exported_is_not_there(fresh: FreshServable):
    with pytest.raises(ExportError, match="callback with key=pyfunc_"):
        fresh.call("python", strings(b"a"))


@pytest.mark.parametrize(
    ("signature", "inputs", "message"),
    [
        ("none", strings(b"a"), "no signature 'none'"),
        ("echo", {"z": np.array([b"a"], object)}, "echo has no input z"),
        ("echo", {}, "You must feed a value"),
        ("echo", {"x": np.array([[b"a"]], object)}, "shape"),
    ],
)
def test_mistakes_are_told(fresh: FreshServable, signature, inputs, message: str):
    with pytest.raises(ExportError, match=message):
        fresh.call(signature, inputs)


def test_words_of_a_tokenizer(fresh: FreshServable):
    import tensorflow_text as tf_text

    words = ["[UNK]", "go", "##od"]
    built = tf_text.FastWordpieceTokenizer(words, no_pretokenization=True)
    model = bytes(built._model.numpy())
    ids = fresh.wordpiece(model, [b"good", b"go", b"bad", b"go od"])
    assert ids == [[1, 2], [1], [0], [0]]


def test_a_process_that_dies_is_told_and_replaced(fresh: FreshServable):
    process = fresh._process
    assert process is not None
    process.kill()
    process.wait()
    with pytest.raises(ExportError, match="was ended by SIGKILL"):
        fresh.call("echo", strings(b"a"))
    assert fresh.call("echo", strings(b"a"))["y"].tolist() == [b"a"]


def test_what_is_no_model(fresh: FreshServable, folder: Path, tmp_path: Path):
    with pytest.raises(ExportError, match="does not exist"):
        fresh.load(tmp_path)
    fresh.load(folder)


# The last one: it leaves no process behind.
def test_another_folder_and_one_that_does_not_end(fresh: FreshServable, tmp_path: Path):
    fresh.load(write_oddities(tmp_path, 1))
    x = np.array([3.0], np.float32)
    assert fresh.call("serving_default", {"x": x})["y"].tolist() == [3.0]
    fresh.timeout = 1.0
    with pytest.raises(ExportError, match="no answer after 1 s"):
        fresh.call("slow", {"x": x})

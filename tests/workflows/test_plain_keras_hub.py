"""A run's model is a plain keras-hub preset that answers as kbert does."""

from pathlib import Path

import h5py
import keras
import keras_hub
import numpy as np
import pytest

import kbert
from kbert.data.encoded import EncodedDataset, encode_texts
from tests.preset_folders import write_keras_hub_preset

TEXTS = ["a b c", "j", "", "a b c d e f g h i j a b c d e f g h i j", "ab ba cc zz"]
LABELS = ["x", "y", "z"]


@pytest.fixture(scope="module", params=["float32", "mixed_bfloat16"])
def run(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> kbert.Run:
    """A run of some steps at a rate that moves every weight."""
    folder = tmp_path_factory.mktemp(request.param)
    rows = [f"{text},{LABELS[i % 3]}" for i, text in enumerate(TEXTS * 6)]
    (folder / "data.csv").write_text("\n".join(["text,label", *rows]), "utf-8")
    return kbert.finetune(
        str(_write_lively_preset(folder / "preset")),
        str(folder / "data.csv"),
        output=folder / "run",
        precision=request.param,
        learning_rate=0.01,
        settings={"train.max_steps": 4, "data.truncation": "head"},
    )


def _write_lively_preset(folder: Path) -> Path:
    """A preset whose weights are large enough that texts differ in their logits."""
    write_keras_hub_preset(folder)
    with h5py.File(folder / "model.weights.h5", "r+") as weights:

        def enlarge(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset) and item.ndim > 1:
                item[...] = 20 * item[...]

        weights.visititems(enlarge)
    return folder


def test_plain_keras_hub_gives_the_same_logits(run: kbert.Run) -> None:
    plain = keras_hub.models.BertTextClassifier.from_preset(str(run.path / "model"))
    encoded = encode_texts(run.predictor.encoder, TEXTS)
    logits = np.concatenate(
        [
            keras.Model(plain.input, plain.output).predict_on_batch(features)
            for features in _one_by_one(encoded)
        ]
    )
    answers = run.predict(TEXTS)
    ours = [[answer["probabilities"][label] for label in LABELS] for answer in answers]
    # Softmax forgets a constant, and no more than that.
    centred = logits - logits.mean(axis=1, keepdims=True)
    ours_centred = np.log(ours) - np.log(ours).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(ours_centred, centred, atol=1e-5, rtol=0)
    assert np.ptp(centred, axis=0).max() > 1e-3, "all texts have the same logits"


def test_plain_keras_hub_runs_in_float32_and_has_the_tokenizer(run: kbert.Run) -> None:
    plain = keras_hub.models.BertTextClassifier.from_preset(str(run.path / "model"))
    assert plain.dtype_policy.name == "float32"
    assert {variable.dtype for variable in plain.trainable_variables} == {"float32"}
    features = plain.preprocessor(TEXTS[:2])
    expected = encode_texts(run.predictor.encoder, TEXTS[:2])
    for row, ids in enumerate(_rows(expected)):
        np.testing.assert_array_equal(
            np.asarray(features["token_ids"])[row, : len(ids)], ids
        )


def _rows(encoded: EncodedDataset) -> list[np.ndarray]:
    return [
        encoded.token_ids[start : start + length]
        for start, length in zip(encoded.starts, encoded.lengths, strict=True)
    ]


def _one_by_one(encoded: EncodedDataset) -> list[dict[str, np.ndarray]]:
    """Each text in a batch of its own, without padding."""
    return [
        {
            "token_ids": ids[None],
            "segment_ids": np.zeros_like(ids)[None],
            "padding_mask": np.ones_like(ids)[None],
        }
        for ids in _rows(encoded)
    ]


def test_the_folder_is_complete(run: kbert.Run) -> None:
    files = {path.name for path in Path(run.path / "model").iterdir()}
    assert {"config.json", "model.weights.h5", "task.weights.h5"} <= files

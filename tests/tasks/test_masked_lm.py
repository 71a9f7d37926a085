"""What a pretrained run's `task.json` holds, and how its head is loaded."""

import json
import shutil
from pathlib import Path
from typing import Any

import keras_hub
import numpy as np
import pytest
from keras import ops

from kbert.errors import RunError
from kbert.tasks import MaskedLM, task_from_dict
from tests.pretrained import TOKENS, write_pretrained_run

TASK = MaskedLM(
    max_length=128,
    lowercase=True,
    strip_accents=False,
    next_sentence=True,
    mask_selection_rate=0.15,
    whole_word=False,
    text_column="review",
)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pretrained_run(tmp_path_factory.mktemp("runs") / "run") / "model"


def test_what_is_written_is_read() -> None:
    values = json.loads(json.dumps(TASK.to_dict()))
    assert values == {
        "task": "masked_lm",
        "next_sentence": True,
        "mask_selection_rate": 0.15,
        "whole_word": False,
        "columns": {"text": "review", "text_pair": None, "label": None},
        "is_paired": False,
        "max_length": 128,
        "truncation": "head_tail",
        "lowercase": True,
        "strip_accents": False,
    }
    assert MaskedLM.from_dict(values, "task.json") == TASK
    assert TASK.columns.text == "review"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_length": "128"}, r'"max_length" must be of type int. Received: \'128\''),
        ({"max_length": True}, r'"max_length" must be of type int. Received: True'),
        ({"max_length": 2}, r'"max_length" is 2, and must be at least 3'),
        ({"lowercase": 1}, r'"lowercase" must be of type bool'),
        ({"columns": None}, r'"columns" must be of type dict'),
        ({"columns": {"text": 3}}, r'"text" must be of type str'),
        ({"mask_selection_rate": "a"}, r'"mask_selection_rate" must be of type float'),
    ],
)
def test_damage_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RunError, match=rf"run/task\.json is damaged: {message}"):
        MaskedLM.from_dict({**TASK.to_dict(), **changes}, "run/task.json")


@pytest.mark.parametrize("key", ["max_length", "lowercase", "columns", "whole_word"])
def test_what_is_missing_is_named(key: str) -> None:
    values = TASK.to_dict()
    del values[key]
    with pytest.raises(RunError, match=f"run/task.json is damaged: no '{key}'"):
        MaskedLM.from_dict(values, "run/task.json")


def test_it_is_no_task_with_labels() -> None:
    with pytest.raises(
        RunError, match=r"a/task\.json is of a pretrained run.*finetune"
    ):
        task_from_dict(TASK.to_dict(), "a/task.json")


def test_logits_are_float32_in_any_precision(model_folder: Path) -> None:
    features = {
        "token_ids": np.array([[2, 11, 7, 12, 4, 3]]),
        "segment_ids": np.zeros((1, 6), int),
        "padding_mask": np.ones((1, 6), int),
        "mask_positions": np.array([[4]]),
    }
    plain = keras_hub.models.BertMaskedLM.from_preset(str(model_folder))
    expected = np.asarray(plain(features))
    assert expected.shape == (1, 1, len(TOKENS))
    same = TASK.load_model(str(model_folder), dtype="float32")
    np.testing.assert_allclose(same(features), expected, atol=1e-5)
    half = TASK.load_model(str(model_folder), dtype="mixed_bfloat16")
    logits = half(features)
    assert logits.dtype == "float32"
    np.testing.assert_allclose(logits, expected, atol=0.2)
    assert half.backbone.compute_dtype == "bfloat16"
    # Not rounded to half precision either, before the bias is added.
    hidden = np.random.default_rng(1).normal(size=(1, 9, 8)).astype(np.float32)
    head = half.masked_lm_head
    products = head(hidden, np.arange(9)[None]) - head._bias
    rounded = ops.cast(ops.cast(products, "bfloat16"), "float32")
    assert np.median(np.abs(products / rounded - 1)) > 2e-4


def test_a_model_without_a_trained_head_is_refused(
    model_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    config = json.loads((folder / "task.json").read_text())
    config["class_name"] = "BertTextClassifier"
    (folder / "task.json").write_text(json.dumps(config))
    with pytest.raises(RunError, match=r"is a BertMaskedLM.* BertTextClassifier"):
        TASK.load_model(str(folder), dtype="float32")
    (folder / "task.json").unlink()
    with pytest.raises(RunError, match="Received: no model"):
        TASK.load_model(str(folder), dtype="float32")

"""The heads of a preset: Hugging Face's, and those that kbert saves."""

import math
from pathlib import Path

import numpy as np
import pytest

from kbert.errors import PresetError
from kbert.models import BertForPretraining
from kbert.preset_files import read_architecture
from kbert.presets import resolve_preset
from kbert.workflows.pretraining.model import build_model, load_weights_of
from tests.preset_folders import hugging_face_weights, write_hugging_face_preset

HIDDEN, VOCABULARY = 8, 20


def head_weights(*, scale: str = "weight", shift: str = "bias") -> dict:
    """Random heads as Hugging Face's BertForPreTraining names them."""
    generator = np.random.default_rng(5)
    shapes = {
        "cls.predictions.transform.dense.weight": (HIDDEN, HIDDEN),
        "cls.predictions.transform.dense.bias": (HIDDEN,),
        f"cls.predictions.transform.LayerNorm.{scale}": (HIDDEN,),
        f"cls.predictions.transform.LayerNorm.{shift}": (HIDDEN,),
        "cls.predictions.bias": (VOCABULARY,),
        "cls.seq_relationship.weight": (2, HIDDEN),
        "cls.seq_relationship.bias": (2,),
    }
    return {
        name: generator.normal(size=shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def load(folder: Path) -> tuple[BertForPretraining, list[str]]:
    preset = resolve_preset(str(folder))
    architecture = read_architecture(folder)[1]
    model = build_model(architecture, next_sentence=True, dtype="float32")
    return model, load_weights_of(preset, model)


@pytest.mark.parametrize(("scale", "shift"), [("weight", "bias"), ("gamma", "beta")])
def test_hugging_face_heads_are_loaded(tmp_path: Path, scale: str, shift: str):
    heads = head_weights(scale=scale, shift=shift)
    body = hugging_face_weights(prefix="bert.", old_norm=scale == "gamma")
    model, missing = load(write_hugging_face_preset(tmp_path / "hf", body | heads))
    assert missing == []
    # The formulas, on a hidden state of ones: dense, exact GELU, norm, tied product.
    transform = "cls.predictions.transform"
    x = (
        heads[f"{transform}.dense.weight"].sum(axis=1)
        + heads[f"{transform}.dense.bias"]
    )
    erf = np.vectorize(math.erf)
    x = 0.5 * x * (1 + erf(x / np.sqrt(2)))
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    x = x * heads[f"{transform}.LayerNorm.{scale}"]
    x = x + heads[f"{transform}.LayerNorm.{shift}"]
    logits = body["bert.embeddings.word_embeddings.weight"] @ x
    logits = logits + heads["cls.predictions.bias"]
    ones = np.ones((1, 1, HIDDEN), np.float32)
    found = np.asarray(model.masked_lm_head(ones, np.zeros((1, 1), np.int32)))[0, 0]
    np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-5)
    following = heads["cls.seq_relationship.weight"].sum(axis=1)
    following = following + heads["cls.seq_relationship.bias"]
    found = np.asarray(model.next_sentence_head(ones[:, 0]))[0]
    np.testing.assert_allclose(found, following, rtol=1e-5, atol=1e-6)


def test_heads_that_are_not_there_are_named(tmp_path: Path):
    folder = write_hugging_face_preset(tmp_path / "hf", hugging_face_weights())
    _, missing = load(folder)
    assert missing == ["masked-LM head", "next-sentence head"]


def test_a_head_of_another_size_is_refused(tmp_path: Path):
    heads = head_weights() | {"cls.predictions.bias": np.zeros(7, np.float32)}
    weights = hugging_face_weights(prefix="bert.") | heads
    folder = write_hugging_face_preset(tmp_path / "hf", weights)
    with pytest.raises(PresetError, match=r"bias of shape \(20,\).*\(7,\)"):
        load(folder)

"""The metrics of a pretraining, beside plain NumPy on the model's logits."""

import math

import numpy as np
import pytest

from kbert.data.pretraining_examples import Examples
from kbert.errors import TrainingError
from kbert.models import MASKED_LM, NEXT_SENTENCE
from kbert.training.masked_data import lay_out
from kbert.training.masked_scores import METRICS, PretrainingScores, evaluate_examples
from tests.training.masked_examples import (
    MAX_LENGTH,
    cross_entropy,
    mask_layer,
    random_examples,
    tiny_bert,
)

# No multiple of the rows of a batch, and more than one batch.
NUM_EXAMPLES = 41


@pytest.fixture(scope="module")
def scores() -> PretrainingScores:
    model = PretrainingScores(tiny_bert())
    model.compile()
    return model


def evaluate(scores, blocks, *, weight: float = 0.5, **arguments):
    return evaluate_examples(
        scores,
        blocks,
        mask_layer(),
        max_length=MAX_LENGTH,
        pad_id=0,
        next_sentence_weight=weight,
        **arguments,
    )


def expected_metrics(model, examples: Examples, weight: float) -> dict[str, float]:
    """All rows at once; their numbers are the draws of the masks."""
    rows = np.arange(len(examples))
    features = lay_out(examples, rows, MAX_LENGTH, 0)
    masked = mask_layer()(features["token_ids"], rows.astype(np.uint32))
    masked = {name: np.array(value) for name, value in masked.items()}
    logits = {n: np.array(x) for n, x in model(features | masked).items()}
    is_used = masked["mask_weights"] > 0
    assert not is_used.all()
    ids, labels = masked["mask_ids"], examples.next_sentence_labels
    loss = cross_entropy(logits[MASKED_LM], ids)[is_used].mean()
    pair_loss = cross_entropy(logits[NEXT_SENTENCE], labels).mean()
    return {
        "loss": loss + weight * pair_loss,
        "masked_lm_loss": loss,
        "masked_lm_accuracy": (logits[MASKED_LM].argmax(-1) == ids)[is_used].mean(),
        "perplexity": math.exp(loss),
        "next_sentence_loss": pair_loss,
        "next_sentence_accuracy": (logits[NEXT_SENTENCE].argmax(-1) == labels).mean(),
        "num_examples": len(examples),
        "num_masked": int(is_used.sum()),
    }


def test_metrics_are_those_of_numpy(scores):
    examples = random_examples(NUM_EXAMPLES)
    found = evaluate(scores, [examples])
    assert tuple(found)[: len(METRICS)] == METRICS
    expected = expected_metrics(scores.model, examples, weight=0.5)
    assert found == pytest.approx(expected, rel=1e-5)
    assert 0 < found["masked_lm_accuracy"] < 1
    assert 0 < found["next_sentence_accuracy"] < 1


def test_how_examples_lie_in_blocks_has_no_influence(scores):
    examples = random_examples(NUM_EXAMPLES)
    bounds = ((0, 3), (3, 35), (35, NUM_EXAMPLES))
    blocks = [examples.select(np.arange(*bound)) for bound in bounds]
    expected = evaluate(scores, [examples])
    assert evaluate(scores, blocks) == pytest.approx(expected, rel=1e-5)


def test_every_evaluation_has_the_same_masks(scores):
    examples = random_examples(NUM_EXAMPLES)
    assert evaluate(scores, [examples]) == evaluate(scores, [examples])


def test_batches_are_counted_without_what_fills_them(scores):
    examples = random_examples(NUM_EXAMPLES)
    told = []
    evaluate(scores, [examples], on_batch=lambda *counts: told.append(counts))
    assert [count for count, _ in told] == [32, NUM_EXAMPLES - 32]
    assert sum(tokens for _, tokens in told) == len(examples.token_ids)


def test_without_next_sentences_the_loss_is_that_of_the_masked_tokens():
    model = tiny_bert(next_sentence=False)
    scores = PretrainingScores(model)
    scores.compile(run_eagerly=True)
    found = evaluate(scores, [random_examples(5)], weight=0.0)
    names = [name for name in METRICS if "next_sentence" not in name]
    assert list(found) == [*names, "num_examples", "num_masked"]
    assert found["loss"] == found["masked_lm_loss"]


def broken_scores(bias: float) -> PretrainingScores:
    """Of a model that is sure of [PAD], which is never masked."""
    scores = PretrainingScores(tiny_bert())
    scores.compile(run_eagerly=True)
    head_bias = scores.model.masked_lm_head.bias
    head_bias.assign(np.where(np.arange(head_bias.shape[0]) == 0, bias, 0.0))
    return scores


def test_the_perplexity_of_a_hopeless_model_does_not_overflow():
    found = evaluate(broken_scores(2000.0), [random_examples(5)])
    assert found["masked_lm_loss"] > 1000
    assert found["masked_lm_accuracy"] == 0
    assert found["perplexity"] == math.exp(100)


def test_outputs_that_are_no_numbers():
    with pytest.raises(TrainingError, match=r"outputs are no numbers.*learning rate"):
        evaluate(broken_scores(math.nan), [random_examples(5)])

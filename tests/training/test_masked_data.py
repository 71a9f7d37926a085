"""What is fed to a pretraining: order, masks, phases, and what each token counts."""

from collections.abc import Iterator

import keras
import numpy as np
import pytest

from kbert.data.pretraining import TextExamples
from kbert.data.pretraining_examples import Examples
from kbert.models import MASKED_LM, NEXT_SENTENCE
from kbert.training.compiling import compile_to_train
from kbert.training.feeding import Fed
from kbert.training.loop import update
from kbert.training.masked_data import MaskedData, compile_mask, lay_out
from tests.data.pretraining_texts import random_corpus, recipe, tiny_tokenizer
from tests.training.masked_examples import (
    MAX_LENGTH,
    NUM_SLOTS,
    Blocks,
    Unmasked,
    cross_entropy,
    data_of,
    mask_layer,
    numbered_examples,
    phase_of,
    random_examples,
    tiny_bert,
)


def batches_of(data: MaskedData, num_steps: int) -> Iterator[list[Fed]]:
    return (update.batches for update in data.updates(num_steps))


def tokens_by_update(data: MaskedData, num_steps: int) -> list[list[list[int]]]:
    """The first token of each row of each batch of each update."""
    return [
        [fed.features["token_ids"][:, 0].tolist() for fed in update.batches]
        for update in data.updates(num_steps)
    ]


def test_examples_are_laid_out_and_padded():
    examples = Examples(
        np.array([2, 7, 3, 8, 9, 3, 2, 6, 3], np.int32),
        np.array([6, 3]),
        np.array([3, 3]),
        np.array([1, 0], np.int32),
    )
    features = lay_out(examples, np.array([1, 0]), 7, pad_id=4)
    assert {name: array.dtype for name, array in features.items()} == dict.fromkeys(
        ("token_ids", "segment_ids", "padding_mask"), np.dtype(np.int32)
    )
    assert features["token_ids"].tolist() == [
        [2, 6, 3, 4, 4, 4, 4],
        [2, 7, 3, 8, 9, 3, 4],
    ]
    assert features["segment_ids"].tolist() == [[0] * 7, [0, 0, 0, 1, 1, 1, 0]]
    assert features["padding_mask"].tolist() == [[1] * 3 + [0] * 4, [1] * 6 + [0]]


def test_batches_run_over_blocks_and_epochs_and_lose_nothing():
    first = [numbered_examples(0, 3), numbered_examples(3, 8), numbered_examples(11, 2)]
    second = [numbered_examples(100, 13)]
    source = Blocks(first, second)
    found = tokens_by_update(data_of(phase_of(source), accumulation=2), 5)
    assert [[len(batch) for batch in batches] for batches in found] == [[4, 4]] * 5
    flat = [number for batches in found for batch in batches for number in batch]
    assert flat == [*range(13), *range(100, 113), *range(13), 100][:40]


def test_an_epoch_may_be_smaller_than_a_batch():
    source = Blocks([numbered_examples(0, 3)])
    (batch,) = next(batches_of(data_of(phase_of(source, num_rows=8)), 1))
    assert batch.features["token_ids"][:, 0].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_what_is_fed_is_a_function_of_seed_and_step():
    def fed(seed: int) -> list[np.ndarray]:
        source = TextExamples(
            random_corpus(),
            tiny_tokenizer(),
            recipe(MAX_LENGTH),
            seed=seed,
            keep=lambda *document: True,
            window_bytes=1500,
        )
        data = data_of(phase_of(source, num_rows=16, num_steps=50))
        return [batch.features["token_ids"] for (batch,) in batches_of(data, 50)]

    one, again, other = fed(1), fed(1), fed(2)
    assert len(one) == 50
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[:10], one[10:20])


def test_each_phase_has_its_length_its_rows_and_its_steps():
    short, long = Blocks([random_examples(40)]), Blocks([random_examples(40, seed=1)])
    data = data_of(
        phase_of(short, length=24, num_rows=6, num_steps=3),
        phase_of(long, length=30, num_rows=4, num_steps=2),
    )

    def shapes(num_steps: int, of: MaskedData = data) -> list[tuple[int, ...]]:
        return [fed.features["token_ids"].shape for (fed,) in batches_of(of, num_steps)]

    assert shapes(5) == [(6, 24)] * 3 + [(4, 30)] * 2
    assert shapes(4) == [(6, 24)] * 3 + [(4, 30)]
    assert shapes(2) == [(6, 24)] * 2
    assert shapes(9, data.only(data.phases[1])) == [(4, 30)] * 2


def test_no_two_examples_share_a_draw_phases_and_epochs_over():
    mask = Unmasked()
    source = Blocks([numbered_examples(0, 5)])
    phases = [
        phase_of(source, mask, num_rows=4, num_steps=3),
        phase_of(source, mask, num_rows=2, num_steps=4),
    ]
    assert len(list(data_of(*phases, accumulation=2).updates(7))) == 7
    assert mask.draws == list(range(4 * 2 * 3 + 2 * 2 * 4))


def test_the_same_text_is_masked_anew_every_time():
    source = Blocks([random_examples(1)])
    data = data_of(phase_of(source, compile_mask(mask_layer()), num_rows=16))
    positions = [
        tuple(row)
        for (fed,) in batches_of(data, 4)
        for row in fed.features["mask_positions"].tolist()
    ]
    assert len(set(positions)) > 32
    again = [fed.features["mask_positions"] for (fed,) in batches_of(data, 4)]
    np.testing.assert_array_equal(np.concatenate(again), positions)


@pytest.mark.parametrize("compiled", [False, True])
def test_masks_are_those_of_the_layer(compiled):
    examples, layer = random_examples(8), mask_layer()
    mask = compile_mask(layer) if compiled else layer
    data = data_of(phase_of(Blocks([examples]), mask, num_rows=8))
    (fed,) = next(batches_of(data, 1))
    plain = lay_out(examples, np.arange(8), MAX_LENGTH, 0)
    masked = layer(plain["token_ids"], np.arange(8, dtype=np.uint32))
    for name in ("token_ids", "mask_positions"):
        np.testing.assert_array_equal(fed.features[name], masked[name])
    np.testing.assert_array_equal(fed.targets[MASKED_LM], masked["mask_ids"])
    np.testing.assert_array_equal(
        fed.targets[NEXT_SENTENCE], examples.next_sentence_labels
    )
    np.testing.assert_array_equal(fed.weights[NEXT_SENTENCE], np.ones(8))
    assert (fed.num_examples, fed.num_tokens) == (8, len(examples.token_ids))


def test_a_slot_counts_as_its_share_of_the_masked_tokens_of_the_update():
    source = Blocks([random_examples(64)])
    mask = compile_mask(mask_layer())
    data = data_of(phase_of(source, mask, num_rows=8), accumulation=4)
    batches = next(batches_of(data, 1))
    weights = [fed.weights[MASKED_LM] for fed in batches]
    assert sum(w.sum() for w in weights) == pytest.approx(32 * NUM_SLOTS)
    assert len({float(w.max()) for w in weights}) == 1
    # Without this, a batch with fewer masks would count as much as one with more.
    assert len({np.count_nonzero(w) for w in weights}) > 1


def test_without_a_single_mask_there_is_no_loss_and_no_division_by_zero():
    examples = Examples(
        np.array([2, 3, 2, 3], np.int32),
        np.array([2, 2]),
        np.array([2, 2]),
        np.zeros(2, np.int32),
    )
    data = data_of(phase_of(Blocks([examples]), mask_layer(), num_rows=2))
    ((fed,),) = batches_of(data, 1)
    assert not fed.weights[MASKED_LM].any()


def test_without_next_sentences_nothing_is_asked_about_them():
    source = Blocks([random_examples(8)])
    data = data_of(phase_of(source, mask_layer()), next_sentence=False)
    ((fed,),) = batches_of(data, 1)
    assert list(fed.targets) == list(fed.weights) == [MASKED_LM]


def test_a_source_is_closed_when_its_phase_is_over():
    short, long = Blocks([numbered_examples(0, 9)]), Blocks([numbered_examples(0, 9)])
    data = data_of(phase_of(short, num_steps=1), phase_of(long, num_steps=1))
    updates = data.updates(2)
    next(updates)
    assert (short.num_open, long.num_open) == (1, 0)
    next(updates)
    assert (short.num_open, long.num_open) == (0, 1)
    assert list(updates) == []
    assert (short.num_open, long.num_open) == (0, 0)


def compiled(accumulation: int | None = None):
    """A model whose step is its gradient: Adam would blow up what rounding leaves."""
    model = tiny_bert()
    compile_to_train(
        model,
        keras.optimizers.SGD(0.1, gradient_accumulation_steps=accumulation),
        loss={
            name: keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            for name in (MASKED_LM, NEXT_SENTENCE)
        },
        loss_weights={MASKED_LM: 1.0, NEXT_SENTENCE: 0.5},
        precision="float32",
        jit_compile=False,
    )
    return model


def test_accumulating_four_times_eight_equals_one_batch_of_32():
    results = []
    for num_rows, accumulation in ((32, None), (8, 4)):
        model = compiled(accumulation)
        source = Blocks([random_examples(50)])
        phase = phase_of(source, compile_mask(mask_layer()), num_rows=num_rows)
        data = data_of(phase, accumulation=accumulation or 1)
        numbered = enumerate(batches_of(data, 3), start=1)
        steps = [update(model, batches, number) for number, batches in numbered]
        results.append((steps, model.get_weights()))
    (large_steps, large), (small_steps, accumulated) = results
    assert [step.num_examples for step in small_steps] == [32] * 3
    for one, other in zip(large_steps, small_steps, strict=True):
        assert other.loss == pytest.approx(one.loss, abs=1e-5)
        assert other.num_tokens == one.num_tokens
    for one, other, before in zip(
        large, accumulated, tiny_bert().get_weights(), strict=True
    ):
        assert not np.allclose(one, before, atol=1e-4)
        np.testing.assert_allclose(other, one, atol=1e-5)


def test_the_loss_is_the_mean_over_masked_tokens_and_over_pairs():
    model = compiled()
    source = Blocks([random_examples(12)])
    phase = phase_of(source, compile_mask(mask_layer()), num_rows=12)
    ((fed,),) = batches_of(data_of(phase), 1)
    outputs = {name: np.array(x) for name, x in model(fed.features).items()}
    is_used = fed.weights[MASKED_LM] > 0
    assert not is_used.all()
    losses = cross_entropy(outputs[MASKED_LM], fed.targets[MASKED_LM])[is_used]
    pairs = cross_entropy(outputs[NEXT_SENTENCE], fed.targets[NEXT_SENTENCE])
    step = update(model, [fed], 1)
    assert step.loss == pytest.approx(losses.mean() + 0.5 * pairs.mean(), abs=1e-5)

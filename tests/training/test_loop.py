"""The training loop: what an update is, which weights are best, when it stops."""

import signal

import keras
import numpy as np
import pytest

from kbert.data.batching import Batching
from kbert.errors import Interrupted, TrainingError
from kbert.tasks import TextClassification
from kbert.training.labelled_data import LabelledData
from kbert.training.loop import Plan, train
from kbert.training.optimizer import AdamW, WarmupSchedule
from tests.tiny import build_model, random_dataset

TASK = TextClassification(labels=("no", "yes"))


def training_data(batching: Batching, num_examples: int = 70) -> LabelledData:
    dataset = random_dataset(num_examples)
    targets = TASK.targets(dataset)
    return LabelledData(
        dataset=dataset,
        targets=targets,
        weights=TASK.example_weights(targets, None),
        batching=batching,
        pad_id=0,
        seed=1,
    )


def compiled_model(learning_rate=1e-2, **arguments) -> keras.Model:
    keras.utils.set_random_seed(3)
    model = build_model(TASK)
    optimizer = AdamW(learning_rate=learning_rate, global_clipnorm=1.0, **arguments)
    model.compile(optimizer=optimizer, loss=TASK.loss())
    return model


class Recorder:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.steps = []
        self.evaluations = []

    def on_step(self, step) -> None:
        self.steps.append(step)

    def on_evaluation(self, step, train_loss, metrics, *, is_best) -> None:
        self.evaluations.append((step, train_loss, is_best))


def run(model, data, plan, values=None):
    """Trains; evaluations give `values` one after the other."""
    recorder = Recorder()
    given = iter(values or [])

    def evaluate(step):
        return {"accuracy": next(given, 0.5), "loss": 1.0}

    steps = train(model, data, plan, evaluate=evaluate, listener=recorder)
    return steps, recorder


def plan(total_steps: int, eval_steps: int = 1000, **arguments) -> Plan:
    return Plan(total_steps, eval_steps, metric="accuracy", **arguments)


def test_accumulating_four_times_eight_equals_one_batch_of_32():
    # 70 examples: the third update has 6 examples, so partial batches count too.
    schedule = WarmupSchedule(0.02, warmup_steps=2, total_steps=6, shape="linear")
    results = []
    accumulating = Batching(32, batch_size=8, accumulation=4)
    for batching, accumulation in [(Batching(32, 32), None), (accumulating, 4)]:
        model = compiled_model(schedule, gradient_accumulation_steps=accumulation)
        data = training_data(batching)
        assert data.steps_per_epoch == 3
        _, recorder = run(model, data, plan(6))
        results.append((model.get_weights(), [step.loss for step in recorder.steps]))
    (large, large_losses), (accumulated, accumulated_losses) = results
    np.testing.assert_allclose(accumulated_losses, large_losses, atol=1e-5)
    for one, other in zip(large, accumulated, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-5)


def test_loss_of_an_update_is_the_mean_over_its_examples():
    model = compiled_model(learning_rate=1e-9)
    data = training_data(Batching(32, 32), num_examples=40)
    _, recorder = run(model, data, plan(2))
    assert sorted(step.num_examples for step in recorder.steps) == [8, 32]
    groups = data.batching.groups(data.dataset.lengths, seed=data.seed)
    updates = data.updates(2)
    for step, group, batches in zip(recorder.steps, groups, updates, strict=True):
        (batch,) = batches
        logits = np.asarray(model(batch.features))[: len(group.rows)]
        log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        targets = data.targets[group.rows]
        expected = -log_probabilities[np.arange(len(targets)), targets].mean()
        assert step.loss == pytest.approx(expected, abs=1e-5)
        assert step.num_tokens == data.dataset.lengths[group.rows].sum()


def test_padding_rows_and_tokens_do_not_change_the_weights():
    narrow = training_data(Batching(32, 16), num_examples=16)
    padded = training_data(Batching(32, 24), num_examples=16)
    weights = []
    for data in (narrow, padded):
        model = compiled_model()
        run(model, data, plan(1))
        weights.append(model.get_weights())
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)


def test_it_learns():
    _, recorder = run(compiled_model(), training_data(Batching(32, 16)), plan(150))
    assert recorder.steps[-1].loss < 0.3 < recorder.steps[0].loss


def test_best_weights_and_patience():
    model, data = compiled_model(), training_data(Batching(32, 32))
    steps, recorder = run(
        model, data, plan(20, eval_steps=2, patience=2), [0.5, 0.7, 0.7, 0.6, 0.9]
    )
    assert steps == 8
    assert [(step, best) for step, _, best in recorder.evaluations] == [
        (2, True), (4, True), (6, False), (8, False)
    ]  # fmt: skip
    losses = [step.loss for step in recorder.steps]
    assert recorder.evaluations[1][1] == pytest.approx(np.mean(losses[2:4]))


def test_a_smaller_loss_is_better():
    recorder = Recorder()
    losses = iter([0.9, 0.5, 0.7])
    train(
        compiled_model(),
        training_data(Batching(32, 32)),
        Plan(3, 1, metric="loss"),
        evaluate=lambda step: {"loss": next(losses)},
        listener=recorder,
    )
    assert [best for _, _, best in recorder.evaluations] == [True, True, False]


def test_the_last_step_is_evaluated():
    _, recorder = run(
        compiled_model(), training_data(Batching(32, 32)), plan(5, eval_steps=2)
    )
    assert [step for step, _, _ in recorder.evaluations] == [2, 4, 5]


def test_a_loss_that_is_no_number_stops_with_advice():
    model = compiled_model()
    model.set_weights([np.full_like(w, np.nan) for w in model.get_weights()])
    with pytest.raises(
        TrainingError, match=r"diverged: the loss at step 1 is nan.*learning rate"
    ):
        run(model, training_data(Batching(32, 32)), plan(2))


def test_an_interrupt_ends_after_the_step_in_progress():
    before = signal.getsignal(signal.SIGINT)

    class Interrupting(Recorder):
        def on_step(self, step) -> None:
            super().on_step(step)
            if step.number == 2:
                signal.raise_signal(signal.SIGINT)

    listener = Interrupting()
    with pytest.raises(Interrupted, match="step 2") as caught:
        train(
            compiled_model(),
            training_data(Batching(32, 32)),
            plan(9),
            evaluate=lambda step: {},
            listener=listener,
        )
    assert caught.value.signal_number == signal.SIGINT
    assert len(listener.steps) == 2
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_cuts_an_evaluation_short():
    def evaluate(step):
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("the evaluation went on")

    listener = Recorder()
    with pytest.raises(Interrupted, match="after step 1") as caught:
        train(
            compiled_model(),
            training_data(Batching(32, 32)),
            plan(1),
            evaluate=evaluate,
            listener=listener,
        )
    assert caught.value.signal_number == signal.SIGTERM
    assert listener.evaluations == []


def test_an_interrupt_while_weights_are_written_waits_for_them():
    written = []

    class Interrupting(Recorder):
        def on_evaluation(self, *arguments, **named) -> None:
            signal.raise_signal(signal.SIGINT)
            written.append(True)

    with pytest.raises(Interrupted, match="after step 1"):
        train(
            compiled_model(),
            training_data(Batching(32, 32)),
            plan(1),
            evaluate=lambda step: {"accuracy": 1.0, "loss": 0.0},
            listener=Interrupting(),
        )
    assert written


def test_class_weights_scale_the_loss_of_their_examples():
    data = training_data(Batching(32, 32), num_examples=32)
    weights = TASK.example_weights(data.targets, {"yes": 3.0})
    np.testing.assert_array_equal(weights, np.where(data.targets == 1, 3, 1))
    heavy = LabelledData(
        data.dataset, data.targets, weights, data.batching, data.pad_id, data.seed
    )
    plain_loss = run(compiled_model(), data, plan(1))[1].steps[0].loss
    heavy_loss = run(compiled_model(), heavy, plan(1))[1].steps[0].loss
    # At random weights the loss of every example is near log 2.
    assert heavy_loss / plain_loss == pytest.approx(weights.mean(), rel=0.1)

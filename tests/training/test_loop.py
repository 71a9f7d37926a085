"""The training loop: what an update is, which weights are best, when it stops."""

import signal

import keras
import numpy as np
import pytest

from kbert.data.batching import Batching
from kbert.errors import Interrupted, TrainingError
from kbert.tasks import TextClassification
from kbert.training.checkpoints import variables_of
from kbert.training.feeding import Fed, Update
from kbert.training.labelled_data import LabelledData
from kbert.training.loop import MOST_SKIPPED, Plan, Progress, train
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

    ended = train(model, data, plan, evaluate=evaluate, listener=recorder)
    return ended.step, recorder


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
    for step, group, given in zip(recorder.steps, groups, updates, strict=True):
        (batch,) = given.batches
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


class Keeper:
    """Keeps a checkpoint in memory every `steps` updates, and when it is told to."""

    def __init__(self, model, steps: int) -> None:
        self.model = model
        self.steps = steps
        self.kept: list[tuple[Progress, dict[str, np.ndarray]]] = []

    def on_step(self, progress: Progress) -> None:
        if progress.step % self.steps == 0:
            self.keep(progress)

    def keep(self, progress: Progress) -> None:
        values = {n: np.array(v) for n, v in variables_of(self.model).items()}
        self.kept.append((Progress.from_dict(progress.to_dict()), values))


def noisy_model(**arguments):
    """A model with dropout."""
    keras.utils.set_random_seed(3)
    model = build_model(TASK, dropout=0.2)
    schedule = WarmupSchedule(0.02, warmup_steps=4, total_steps=30, shape="linear")
    optimizer = AdamW(schedule, global_clipnorm=1.0, **arguments)
    model.compile(optimizer=optimizer, loss=TASK.loss())
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize("accumulation", [1, 3])
def test_going_on_from_any_step_is_as_if_nothing_had_happened(accumulation):
    data = training_data(Batching(32, 8, accumulation=accumulation))
    arguments = (
        {"gradient_accumulation_steps": accumulation} if accumulation > 1 else {}
    )
    model = noisy_model(**arguments)
    keeper = Keeper(model, steps=1)
    # Of 30 steps; the metric has its best at 16, and patience ends it at 28.
    accuracies = {4: 0.5, 8: 0.6, 12: 0.6, 16: 0.8, 20: 0.7, 24: 0.8, 28: 0.1, 30: 1.0}
    the_plan = plan(30, eval_steps=4, patience=3)

    def go_on(model, progress):
        recorder = Recorder()
        ended = train(
            model,
            data,
            the_plan,
            evaluate=lambda step: {"accuracy": accuracies[step]},
            listener=recorder,
            keeper=keeper if progress is None else None,
            progress=progress,
        )
        values = {name: np.array(v) for name, v in variables_of(model).items()}
        return ended, recorder, values

    ended, whole, weights = go_on(model, None)
    assert ended.step == 28
    kept = list(keeper.kept)
    assert {progress.step for progress, _ in kept} == set(range(1, 29))
    assert any(p.evaluated_step < p.step for p, _ in kept if p.step % 4 == 0)
    # In the middle, before an evaluation and after one, with patience used up in part.
    moments = [(6, 4), (8, 4), (24, 24)] if accumulation == 1 else [(13, 12)]
    chosen = [c for c in kept if (c[0].step, c[0].evaluated_step) in moments]
    assert len(chosen) == len(moments)
    for progress, values in chosen:
        other = noisy_model(**arguments)
        for name, variable in variables_of(other).items():
            variable.assign(values[name])
        ended_again, rest, weights_again = go_on(other, progress)
        assert ended_again == ended
        assert rest.steps == whole.steps[progress.step :]
        done = sum(step <= progress.evaluated_step for step, _, _ in whole.evaluations)
        assert rest.evaluations == whole.evaluations[done:]
        for name, value in weights.items():
            np.testing.assert_array_equal(weights_again[name], value, err_msg=name)


def test_what_has_ended_does_nothing_more():
    model = noisy_model()
    data = training_data(Batching(32, 8))
    ended = train(
        model,
        data,
        plan(5),
        evaluate=lambda step: {"accuracy": 0.5},
        listener=Recorder(),
    )
    recorder = Recorder()
    again = train(
        model,
        data,
        plan(5),
        evaluate=lambda step: {},
        listener=recorder,
        progress=ended,
    )
    assert again == ended
    assert recorder.steps == recorder.evaluations == []


class Broken:
    """Data whose updates of some numbers give a gradient that is no number."""

    def __init__(self, data: LabelledData, broken: set[int]) -> None:
        self.data = data
        self.broken = broken

    def updates(self, num_steps, start=None):
        for number, given in enumerate(self.data.updates(num_steps, start), start=1):
            if number in self.broken:
                (fed,) = given.batches
                weights = np.full_like(fed.weights, np.nan)
                fed = Fed(
                    fed.features,
                    fed.targets,
                    weights,
                    fed.num_examples,
                    fed.num_tokens,
                    fed.example_ids,
                )
                given = Update([fed], given.position)
            yield given


def test_a_broken_update_is_skipped_where_that_is_set(caplog):
    data = training_data(Batching(32, 8))
    model = noisy_model()
    recorder = Recorder()
    keeper = Keeper(model, steps=1)
    ended = train(
        model,
        Broken(data, {3, 4}),
        plan(6, on_nonfinite="skip"),
        evaluate=lambda step: {"accuracy": 0.5},
        listener=recorder,
        keeper=keeper,
    )
    assert (ended.step, ended.num_skipped, ended.num_skipped_in_a_row) == (6, 2, 0)
    assert [step.number for step in recorder.steps] == [1, 2, 5, 6]
    after = {progress.step: values for progress, values in keeper.kept}
    for name, value in after[2].items():
        if (name.startswith("model/") and "seed" not in name) or "moment" in name:
            np.testing.assert_array_equal(after[4][name], value, err_msg=name)
    assert any(
        not np.array_equal(after[5][name], after[4][name])
        for name in after[4]
        if "kernel" in name
    )
    assert all(np.isfinite(value).all() for value in after[6].values())
    third = list(data.updates(3))[-1].batches[0].example_ids
    named = f"counted from 0: {', '.join(map(str, third))} (the data went on to"
    assert named in caplog.text
    assert "the loss at step 3 is nan" in caplog.text


def test_a_broken_update_stops_and_leaves_the_weights(caplog):
    model = noisy_model()
    keeper = Keeper(model, steps=1)
    with pytest.raises(TrainingError, match="the loss at step 3 is nan"):
        train(
            model,
            Broken(training_data(Batching(32, 8)), {3}),
            plan(6),
            evaluate=lambda step: {},
            listener=Recorder(),
            keeper=keeper,
        )
    for name, variable in variables_of(model).items():
        if "kernel" in name or "embeddings" in name:
            np.testing.assert_array_equal(variable, keeper.kept[-1][1][name])
    assert "Examples of the update, counted from 0: " in caplog.text


def test_nothing_but_broken_updates_is_an_error():
    with pytest.raises(TrainingError, match="10 updates in a row were skipped"):
        train(
            noisy_model(),
            Broken(training_data(Batching(32, 8)), set(range(3, 40))),
            plan(40, on_nonfinite="skip"),
            evaluate=lambda step: {},
            listener=Recorder(),
        )
    assert MOST_SKIPPED == 10


def test_an_infinite_gradient_of_a_finite_loss_is_skipped():
    model = noisy_model()
    kernel = next(v for v in model.trainable_variables if v.name == "kernel")
    big = [np.full(v.shape, 3e38, np.float32) for v in model.trainable_variables]
    before = np.array(kernel)
    model.optimizer.apply(
        [keras.ops.convert_to_tensor(g) for g in big], model.trainable_variables
    )
    assert int(model.optimizer.num_skipped) == 1
    np.testing.assert_array_equal(kernel, before)
    small = [keras.ops.ones(v.shape) for v in model.trainable_variables]
    model.optimizer.apply(small, model.trainable_variables)
    assert int(model.optimizer.num_skipped) == 1
    assert not np.array_equal(kernel, before)


class Overflowing:
    """A model with a loss scale whose gradient is never finite, though its loss is."""

    def __init__(self) -> None:
        self.weight = keras.Variable(np.ones(2, np.float32))
        self.optimizer = keras.optimizers.LossScaleOptimizer(AdamW(1e-3))
        self.optimizer.build([self.weight])

    def train_on_batch(self, *batch, **options):
        self.optimizer.apply([keras.ops.full((2,), np.nan)], [self.weight])
        return {"loss": 0.5}


def test_a_loss_scale_does_not_hide_a_gradient_that_is_none():
    # It is halved from 2**15 to 1 first: that may be a search for the right one.
    model = Overflowing()
    data = training_data(Batching(32, 8))
    with pytest.raises(TrainingError, match="the gradient at step 16 is no finite"):
        train(
            model,
            data,
            plan(40),
            evaluate=lambda step: {},
            listener=Recorder(),
        )
    np.testing.assert_array_equal(model.weight, 1)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (signal.SIGALRM, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGALRM),
        (signal.SIGINT, signal.SIGTERM),
    ],
)
def test_a_clock_and_the_end_of_a_slot_do_not_cut_the_checkpoint(first, second):
    model = noisy_model()

    class Stopping(Recorder):
        def on_step(self, step):
            super().on_step(step)
            if step.number == 3:
                signal.raise_signal(first)

    class Slow(Keeper):
        def keep(self, progress):
            signal.raise_signal(second)  # in the middle of its writing
            super().keep(progress)

    keeper = Slow(model, steps=100)
    with pytest.raises(Interrupted, match="stopped after step 3") as caught:
        train(
            model,
            training_data(Batching(32, 8)),
            plan(6),
            evaluate=lambda step: {},
            listener=Stopping(),
            keeper=keeper,
        )
    assert caught.value.signal_number == first
    assert [progress.step for progress, _ in keeper.kept] == [3]

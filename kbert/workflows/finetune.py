"""Fine-tuning: from a preset and labelled texts to a run."""

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from kbert.config import FinetuneConfig
from kbert.data.batching import Batching
from kbert.errors import Interrupted
from kbert.runs import RunFolder
from kbert.training.loop import Progress, diverged, train
from kbert.training.prediction import predict_outputs
from kbert.workflows.building import Trainee
from kbert.workflows.checkpointing import Checkpointer, RunState
from kbert.workflows.job import Job, prepare
from kbert.workflows.predictor import Predictor
from kbert.workflows.record import Record
from kbert.workflows.rehearsal import Estimate, rehearse
from kbert.workflows.reporting import RunListener
from kbert.workflows.resuming import (
    Resumption,
    go_on,
    noting_a_full_disk,
    resuming,
    run_of,
)

logger = logging.getLogger(__name__)


def finetune(
    config: FinetuneConfig,
    *,
    output: Path | None = None,
    progress: TextIO | None = None,
    resume: Path | None = None,
) -> RunFolder:
    """Fine-tunes a preset and writes a run.

    Args:
        config: the settings.
        output: the run folder; a free `runs/DATA-PRESET` where none is given.
        progress: where to show the progress line; None for none.
        resume: a run to go on with, in place of `output`. `config` is its own, with
            more epochs or steps perhaps.

    Raises:
        UserError: a mistake in the settings, the data, the preset or the output;
            nothing is written then.
        TrainingError: the loss is no longer a number.
        Interrupted: a signal ended the training between two steps; the run holds
            the best model so far and a checkpoint to go on from.
        KeyboardInterrupt: at any other moment; the run is as it was then.
    """
    record = Record()
    with contextlib.ExitStack() as held:
        resumption = None if resume is None else held.enter_context(resuming(resume))
        if resumption is not None and resumption.is_finished(config):
            logger.info("%s is finished: nothing is left to do", resume)
            return resumption.run
        job = prepare(config, output, progress, resumption)
        trainee = job.build()
        run = held.enter_context(run_of(job, trainee.model, resumption))
        run.write_task(job.describe_task())
        job.keep_data(run)
        _run(run, job, trainee, record, progress, resumption)
    return run


def _run(
    run: RunFolder,
    job: Job,
    trainee: Trainee,
    record: Record,
    progress: TextIO | None,
    resumption: Resumption | None,
) -> None:
    """Trains, from the beginning or from where a run was, and evaluates."""
    state = None if resumption is None else resumption.state
    progress_before = None if state is None else state.progress
    listener = _listen(run, job, trainee, progress, state)
    data = job.describe_data()
    record.begin(run, precision=str(job.choice), data=data, going_on=state)
    keeper = Checkpointer(
        run,
        trainee.model,
        job.config.train,
        data=job.data_digest,
        listener=listener,
        seconds=record.training_seconds,
        kept=progress_before,
    )
    if state is not None and job.plan.has_lost_patience(state.progress):
        logger.warning(
            "patience ran out at step %d: more epochs or steps have no effect",
            state.progress.step,
        )
    with _noting_early_ends(run, job, trainee, listener, record):
        ended = _train(job, trainee, listener, keeper, progress_before)
        record.note_trained()
        _finish(run, job, listener, progress)
    shutil.rmtree(run.encoded_folder, ignore_errors=True)
    record.finish(
        steps=ended.step,
        skipped_steps=ended.num_skipped,
        best_step=listener.best_step,
        train_tokens=listener.num_tokens,
    )
    keeper.finish()


def estimate(config: FinetuneConfig, *, output: Path | None = None) -> Estimate:
    """Builds everything, runs two steps and writes nothing: `--dry-run`.

    Raises:
        UserError: as `finetune` would.
    """
    job = prepare(config, output)
    plan, datasets = job.plan, job.datasets
    num_evaluations = -(-plan.total_steps // plan.eval_steps)
    tokens = {
        name: int(part.lengths.sum()) for name, part in datasets.by_split().items()
    }
    data = job.data
    groups = data.batching.groups(data.dataset.lengths, seed=data.seed)
    widest = max(groups, key=lambda group: group.width * group.capacity)
    batches = data.batching.batches(data.dataset, widest, data.pad_id)
    epoch_tokens = sum(group.width * group.capacity for group in groups)
    return rehearse(
        job.build().model,
        [data.fill(batch) for batch in batches],
        total_steps=plan.total_steps,
        train_tokens=round(epoch_tokens * plan.total_steps / len(groups)),
        evaluated_tokens=num_evaluations * tokens["validation"] + tokens.get("test", 0),
    )


@contextlib.contextmanager
def _noting_early_ends(
    run: RunFolder,
    job: Job,
    trainee: Trainee,
    listener: RunListener,
    record: Record,
) -> Iterator[None]:
    """Notes in the run how its training ended early, and tells what it holds."""
    try:
        yield
    except Interrupted as error:
        if listener.best_step is None:
            with noting_a_full_disk():
                trainee.save(run, job.preset, job.encoder.max_length)
        record.note_early_end("interrupted")
        raise Interrupted(
            f"{error}; {_kept(run, listener)}. Go on: {go_on('finetune', run)}",
            error.signal_number,
        ) from None
    except KeyboardInterrupt as error:
        # Not between two steps, or for the second time: all stays as it is.
        record.note_early_end("interrupted")
        error.args = (_kept(run, listener),)
        raise
    except BaseException as error:
        record.note_early_end("failed")
        if isinstance(error, OSError):  # such as a full disk
            logger.warning("Go on once it is mended: %s", go_on("finetune", run))
        raise


def _train(
    job: Job,
    trainee: Trainee,
    listener: RunListener,
    keeper: Checkpointer,
    progress: Progress | None,
) -> Progress:
    validation = job.datasets.validation
    targets = job.task.targets(validation)
    batching = Batching(job.encoder.max_length, job.config.train.batch_size)

    def evaluate(step: int) -> dict[str, Any]:
        listener.pause()
        outputs = predict_outputs(trainee.model, validation, batching, job.data.pad_id)
        if not np.isfinite(outputs).all():
            raise diverged(f"after step {step} the model's outputs are no numbers")
        return job.task.metrics(job.task.predictions(outputs), targets)

    try:
        return train(
            trainee.model,
            job.data,
            job.plan,
            evaluate=evaluate,
            listener=listener,
            keeper=keeper,
            progress=progress,
        )
    finally:
        listener.close()


def _listen(
    run: RunFolder,
    job: Job,
    trainee: Trainee,
    progress: TextIO | None,
    state: RunState | None,
) -> RunListener:
    return RunListener(
        run,
        steps_per_epoch=job.data.steps_per_epoch,
        total_steps=job.plan.total_steps,
        metric=job.config.train.best_metric,
        learning_rate=lambda step: float(trainee.schedule(step)),
        save=lambda metrics: trainee.save(
            run, job.preset, job.encoder.max_length, metrics
        ),
        stream=progress,
        state=None if state is None else state.listener,
    )


def _finish(
    run: RunFolder, job: Job, listener: RunListener, progress: TextIO | None
) -> None:
    """Writes the metrics of the model that the run keeps, and draws them.

    The validation part was measured in training, in its precision; the test part is
    measured here, as `kbert evaluate` would.
    """
    from kbert.plots import plot_curves  # slow to import

    metrics: dict[str, dict[str, Any]] = {}
    targets = job.task.targets(job.datasets.validation)
    measured = run.read_validation()
    if measured is not None and job.task.are_metrics(measured, targets):
        metrics["validation"] = measured
    splits = {"validation": job.datasets.validation, "test": job.datasets.test}
    missing = {
        name: dataset
        for name, dataset in splits.items()
        if dataset is not None and name not in metrics
    }
    if missing:
        predictor = Predictor(run)
        for name, dataset in missing.items():
            metrics[name] = predictor.evaluate(dataset, progress=progress)
    run.write_metrics(metrics)
    plot_curves(listener.history, run.path / "curves.png", best_step=listener.best_step)
    job.task.plot(metrics.get("test", metrics["validation"]), run.path)


def _kept(run: RunFolder, listener: RunListener) -> str:
    if listener.best_step is not None:
        return f"the best model so far, of step {listener.best_step}, is in {run.path}"
    if run.model_folder.is_dir():
        return f"the model as it was then is in {run.path}"
    return f"{run.path} has no model yet"

"""Pretraining: from text to a run with a preset in it."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from kbert.errors import Interrupted
from kbert.files import write_text
from kbert.pretrain_settings import PretrainConfig
from kbert.runs import RunFolder
from kbert.training.loop import Plan, Progress, train
from kbert.training.masked_scores import PretrainingScores, evaluate_examples
from kbert.training.tracing import trace_for_each_shape
from kbert.workflows.applying import preset_of
from kbert.workflows.checkpointing import Checkpointer, RunState
from kbert.workflows.pretraining.job import PretrainJob
from kbert.workflows.pretraining.material import TextMaterial
from kbert.workflows.pretraining.model import Pretrainee, load_pretrained
from kbert.workflows.pretraining.preparing import prepare
from kbert.workflows.pretraining.text import warn_of_broken_text
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


def pretrain(
    config: PretrainConfig,
    *,
    output: Path | None = None,
    progress: TextIO | None = None,
    resume: Path | None = None,
) -> RunFolder:
    """Trains or adapts a BERT on text without labels, and writes a run.

    Args:
        config: the settings.
        output: the run folder; a free `runs/TEXT-MODEL` where none is given.
        progress: where to show the progress line; None for none.
        resume: a run to go on with, in place of `output`. `config` is its own, with
            more steps perhaps.

    Raises:
        UserError: a mistake in the settings, the text, the preset or the output;
            nothing is written then.
        TrainingError: the loss is no longer a number.
        Interrupted: a signal ended the training between two steps; the run holds the
            model as it was then and a checkpoint to go on from.
    """
    record = Record()
    with contextlib.ExitStack() as held:
        resumption = None if resume is None else held.enter_context(resuming(resume))
        if resumption is not None and resumption.is_finished(config):
            logger.info("%s is finished: nothing is left to do", resume)
            return resumption.run
        job = prepare(config, output, progress, resumption)
        pretrainee = job.build()
        run = held.enter_context(run_of(job, pretrainee.model, resumption))
        write_text(run.vocabulary_file, "\n".join(job.vocabulary.tokens) + "\n")
        run.write_task(job.describe_task())
        _run(run, job, pretrainee, record, progress, resumption)
    return run


def _run(
    run: RunFolder,
    job: PretrainJob,
    pretrainee: Pretrainee,
    record: Record,
    progress: TextIO | None,
    resumption: Resumption | None,
) -> None:
    """Trains, from the beginning or from where a run was, and evaluates."""
    state = None if resumption is None else resumption.state
    progress_before = None if state is None else state.progress
    listener = _listen(run, job, pretrainee, progress, state)
    data = job.material.describe()
    record.begin(run, precision=str(job.choice), data=data, going_on=state)
    keeper = Checkpointer(
        run,
        pretrainee.model,
        job.config.train,
        data=job.data_digest,
        listener=listener,
        seconds=record.training_seconds,
        kept=progress_before,
    )
    with _noting_early_ends(run, pretrainee, record):
        ended = _train(job, pretrainee, listener, keeper, progress_before)
        record.note_trained()
        _finish(run, job, listener)
    if isinstance(job.material, TextMaterial):
        warn_of_broken_text(job.material.corpus)
    record.finish(
        data=job.material.describe(),  # by now all the text has been read
        steps=ended.step,
        skipped_steps=ended.num_skipped,
        train_tokens=listener.num_tokens,
    )
    keeper.finish()


def estimate(config: PretrainConfig, *, output: Path | None = None) -> Estimate:
    """Builds everything, runs two steps and writes nothing: `--dry-run`.

    Raises:
        UserError: as `pretrain` would.
    """
    job = prepare(config, output)
    phases = job.data.phases
    widest = max(phases, key=lambda phase: phase.max_length * phase.num_rows)
    (rehearsed,) = job.data.only(widest).updates(1)
    accumulation = job.data.accumulation
    validation = job.validation(widest.max_length)
    num_evaluations = -(-job.config.train.max_steps // _eval_steps(job)) + 1
    return rehearse(
        job.build().model,
        rehearsed.batches,
        total_steps=job.config.train.max_steps,
        train_tokens=sum(
            phase.num_steps * phase.num_rows * phase.max_length * accumulation
            for phase in phases
        ),
        evaluated_tokens=num_evaluations * len(validation) * widest.max_length,
    )


def _eval_steps(job: PretrainJob) -> int:
    assert job.config.train.eval_steps is not None, "settings are resolved"
    return job.config.train.eval_steps


def _listen(
    run: RunFolder,
    job: PretrainJob,
    pretrainee: Pretrainee,
    progress: TextIO | None,
    state: RunState | None,
) -> RunListener:
    return RunListener(
        run,
        steps_per_epoch=None,
        total_steps=job.config.train.max_steps,
        metric="masked_lm_accuracy",
        learning_rate=lambda step: float(pretrainee.schedule(step)),
        save=lambda _: pretrainee.save(run),
        stream=progress,
        kept="kept",
        state=None if state is None else state.listener,
    )


def _train(
    job: PretrainJob,
    pretrainee: Pretrainee,
    listener: RunListener,
    keeper: Checkpointer,
    progress: Progress | None,
) -> Progress:
    scores = PretrainingScores(pretrainee.model)
    scores.compile(jit_compile=bool(job.config.train.jit_compile))
    trace_for_each_shape(scores)

    def evaluate(step: int) -> dict[str, Any]:
        listener.pause()
        length = job.phase_at(step).max_length
        return _evaluate(job, scores, length)

    plan = Plan(
        job.config.train.max_steps,
        _eval_steps(job),
        metric=None,
        on_nonfinite=job.config.train.on_nonfinite,
    )
    try:
        return train(
            pretrainee.model,
            job.data,
            plan,
            evaluate=evaluate,
            listener=listener,
            keeper=keeper,
            progress=progress,
        )
    finally:
        listener.close()


def _evaluate(
    job: PretrainJob, scores: PretrainingScores, max_length: int
) -> dict[str, Any]:
    """The metrics on held-out examples, with the masks that every evaluation has."""
    return evaluate_examples(
        scores,
        [job.validation(max_length)],
        job.compiled_mask(max_length),
        max_length=max_length,
        pad_id=job.tokenizer.pad_id,
        next_sentence_weight=job.config.train.next_sentence_weight,
    )


def _finish(run: RunFolder, job: PretrainJob, listener: RunListener) -> None:
    """Evaluates the model that the run keeps, in float32, as it was written."""
    from kbert.plots import plot_curves  # slow to import

    length = job.config.data.max_length
    model = load_pretrained(preset_of(run), next_sentence=job.next_sentence)
    scores = PretrainingScores(model)
    scores.compile()
    metrics = _evaluate(job, scores, length)
    run.write_metrics({"validation": metrics})
    plot_curves(
        listener.history,
        run.path / "curves.png",
        best_step=listener.best_step,
        mark="kept",
    )


@contextlib.contextmanager
def _noting_early_ends(
    run: RunFolder, pretrainee: Pretrainee, record: Record
) -> Iterator[None]:
    """Notes in the run how its training ended early, and keeps the model."""
    try:
        yield
    except Interrupted as error:
        with noting_a_full_disk():
            pretrainee.save(run)
        record.note_early_end("interrupted")
        raise Interrupted(
            f"{error}; the model as it was then is in {run.path}. Go on: "
            f"{go_on('pretrain', run)}",
            error.signal_number,
        ) from None
    except KeyboardInterrupt:
        record.note_early_end("interrupted")
        raise
    except BaseException as error:
        record.note_early_end("failed")
        if isinstance(error, OSError):  # such as a full disk
            logger.warning("Go on once it is mended: %s", go_on("pretrain", run))
        raise

"""What a training writes down and shows while it runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import tensorflow as tf

from kbert.disk_errors import disk_errors_of
from kbert.progress import ProgressLine
from kbert.runs import RunFolder
from kbert.training.loop import Step

_LOG_EVERY = 10


@dataclass(frozen=True)
class ListenerState:
    """What a listener has to know to go on. It is JSON.

    Attributes:
        history: a line an evaluation, as in `history.jsonl`.
        num_tokens: trained on so far.
        best_step: whose weights are the run's model.
        best_digest: see `RunFolder.model_digest`.
    """

    history: Sequence[dict[str, Any]] = ()
    num_tokens: int = 0
    best_step: int | None = None
    best_digest: str | None = None


class RunListener:
    """Keeps history, TensorBoard's logs, the best weights and the progress line.

    Args:
        run: where to write.
        steps_per_epoch: updates of an epoch; None where nobody knows.
        total_steps: updates of the whole training.
        metric: the metric that the progress line shows.
        kept: what is said of a model that is kept.
        learning_rate: the rate of an update, by its number counted from 0.
        save: makes the present weights the run's model; told their metrics.
        stream: where the progress line goes; None for no line.
        state: of the listener of an earlier part of the training, to go on from.
    """

    def __init__(
        self,
        run: RunFolder,
        *,
        steps_per_epoch: int | None,
        total_steps: int,
        metric: str,
        learning_rate: Callable[[int], float],
        save: Callable[[dict[str, Any]], None],
        stream: TextIO | None,
        kept: str = "best so far, kept",
        state: ListenerState | None = None,
    ) -> None:
        self._run = run
        self._steps_per_epoch = steps_per_epoch
        self._metric = metric
        self._learning_rate = learning_rate
        self._save = save
        self._kept = kept
        self._progress = ProgressLine(total_steps, stream) if stream else None
        with disk_errors_of(run.logs_folder):
            self._train_logs, self._validation_logs = (
                tf.summary.create_file_writer(str(run.logs_folder / name))
                for name in ("train", "validation")
            )
        state = state or ListenerState()
        self._validation = self._shown(state.history[-1]) if state.history else {}
        self.history = list(state.history)
        self.num_tokens = state.num_tokens
        self.best_step = state.best_step
        self._best_digest = state.best_digest

    def state(self) -> ListenerState:
        """What it takes to go on from here."""
        return ListenerState(
            tuple(self.history), self.num_tokens, self.best_step, self._best_digest
        )

    def on_step(self, step: Step) -> None:
        """Counts, shows and, every tenth update, logs.

        Raises:
            OSError: the disk is full.
        """
        self.num_tokens += step.num_tokens
        rate = self._learning_rate(step.number - 1)
        if self._progress:
            self._progress.update(
                step.number,
                step.num_examples,
                step.num_tokens,
                loss=step.loss,
                learning_rate=rate,
                **self._validation,
            )
        if step.number % _LOG_EVERY == 0:
            figures = {"loss": step.loss, "learning_rate": rate}
            self._log(self._train_logs, step.number, figures)

    def on_evaluation(
        self,
        step: int,
        train_loss: float | None,
        metrics: dict[str, Any],
        *,
        is_best: bool,
    ) -> None:
        """Writes a line of history, and the weights where they are the best.

        Raises:
            OSError: the disk is full.
        """
        figures = {k: v for k, v in metrics.items() if isinstance(v, float)}
        line = {
            "step": step,
            **self._epoch(step),
            "train_loss": train_loss,
            "learning_rate": self._learning_rate(step - 1),
            "validation": figures,
            "is_best": is_best,
        }
        if is_best:
            self._save(metrics)
            self.best_step = step
            self._best_digest = self._run.model_digest()
        self.history.append(line)
        self._run.append_history(line)
        self._log(self._validation_logs, step, figures)
        with disk_errors_of(self._run.logs_folder):
            self._validation_logs.flush()
            self._train_logs.flush()
        self._validation = self._shown(line)
        if self._progress:
            names = dict.fromkeys(("loss", self._metric))
            shown = ", ".join(f"{name} {figures[name]:.4f}" for name in names)
            mark = f" ({self._kept})" if is_best else ""
            self._progress.message(f"step {step}: validation {shown}{mark}")

    def _log(
        self, logs: tf.summary.SummaryWriter, step: int, figures: dict[str, float]
    ) -> None:
        with disk_errors_of(self._run.logs_folder), logs.as_default(step=step):
            for name, value in figures.items():
                tf.summary.scalar(name, value)

    def _shown(self, line: dict[str, Any]) -> dict[str, float]:
        """What the progress line says of an evaluation."""
        figures = line["validation"]
        known = self._metric in figures
        return {f"val_{self._metric}": figures[self._metric]} if known else {}

    def _epoch(self, step: int) -> dict[str, float]:
        if self._steps_per_epoch is None:
            return {}
        return {"epoch": round(step / self._steps_per_epoch, 4)}

    def pause(self) -> None:
        """Takes the progress line away while something else is done."""
        if self._progress:
            self._progress.pause()

    def close(self) -> None:
        """Ends the progress line and the logs.

        Raises:
            OSError: the disk is full.
        """
        if self._progress:
            self._progress.close()
        with disk_errors_of(self._run.logs_folder):
            self._train_logs.close()
            self._validation_logs.close()

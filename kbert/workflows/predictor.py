"""A run, loaded to answer: the one way in which a run is ever applied.

Evaluation, prediction, a training's test data and the Python API all go through
here, so that their figures agree.
"""

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TextIO

import numpy as np
import tensorflow as tf

from kbert.data.batching import Batching
from kbert.data.encoded import EncodedDataset, Encoder, encode_texts
from kbert.errors import ConfigError, RunError
from kbert.presets import Preset
from kbert.progress import ProgressLine
from kbert.runs import RunFolder, open_run
from kbert.tasks import Task, is_pretrained, task_from_dict
from kbert.tokenization import Truncation
from kbert.training.prediction import predict_outputs
from kbert.training.tracing import trace_for_any_shape
from kbert.workflows.applying import (
    TOKENS_PER_BATCH,
    WINDOW,
    Text,
    check_max_length,
    check_precision,
    check_text,
    preset_of,
    tokenizer_of,
)
from kbert.workflows.mask_filler import DEFAULT_TOP_K, MaskFiller
from kbert.workflows.run_encoding import read_encoding


def build_encoder(
    preset: Preset, *, max_length: int, truncation: Truncation
) -> Encoder:
    """The tokenizer of a preset, and how its texts are cut."""
    return Encoder(tokenizer_of(preset), max_length, truncation)


def open_predictor(
    run: RunFolder | str | os.PathLike[str],
    *,
    precision: str = "float32",
    top_k: int | None = None,
) -> "Predictor | MaskFiller":
    """A run of any task, loaded to answer.

    Args:
        run: a run folder, or its path.
        precision: float32, mixed_bfloat16 or mixed_float16.
        top_k: how many tokens to propose for a mask; for pretrained runs only, where
            None is 5.

    Raises:
        ConfigError: there is no such precision, or `top_k` is wrong or has no effect.
        RunError: the run is no run, or damaged.
        PresetError: its model cannot be loaded.
    """
    folder = run if isinstance(run, RunFolder) else open_run(run)
    if is_pretrained(folder.read_task()):
        return MaskFiller(
            folder,
            precision=precision,
            top_k=DEFAULT_TOP_K if top_k is None else top_k,
        )
    if top_k is not None:
        raise ConfigError(
            "top_k (--top-k) says how many tokens to propose for a mask, and has an "
            f"effect on pretrained runs only. Received: {top_k}, for {folder.path}, "
            "which was fine-tuned. Leave it out."
        )
    return Predictor(folder, precision=precision)


class Predictor:
    """A loaded run that answers with labels.

    Args:
        run: a run folder, or its path.
        precision: float32, mixed_bfloat16 or mixed_float16; the first is what is
            exported.

    Raises:
        ConfigError: there is no such precision.
        RunError: the run is no run, or damaged.
        PresetError: its model cannot be loaded.
    """

    def __init__(
        self, run: RunFolder | str | os.PathLike[str], *, precision: str = "float32"
    ) -> None:
        check_precision(precision)
        self.run = run if isinstance(run, RunFolder) else open_run(run)
        values = self.run.read_task()
        try:
            self.task: Task = task_from_dict(values, str(self.run.task_file))
            encoding = read_encoding(values, str(self.run.task_file))
        except KeyError as error:
            raise RunError(f"{self.run.task_file} is damaged: no {error}.") from None
        max_length, truncation = encoding.max_length, encoding.truncation
        self.is_paired, self.columns = encoding.is_paired, encoding.columns
        preset = preset_of(self.run)
        check_max_length(max_length, preset, self.run.task_file)
        self.encoder = build_encoder(
            preset, max_length=max_length, truncation=truncation
        )
        self._model = self.task.load_model(str(preset.folder), dtype=precision)
        trace_for_any_shape(self._model)
        self._batching = Batching(max_length, tokens_per_batch=TOKENS_PER_BATCH)
        strings = tf.TensorSpec([None], tf.string)
        signature = [strings, strings] if self.is_paired else [strings]
        self._encode_graph = tf.function(
            self.encoder, input_signature=signature, autograph=False
        )

    def predict(
        self,
        dataset: EncodedDataset,
        *,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """The task's predictions `[examples, ...]` in the data set's order.

        Args:
            on_batch: told the examples and the tokens of each batch that is done.
        """
        return self.task.predictions(self.outputs(dataset, on_batch=on_batch))

    def outputs(
        self,
        dataset: EncodedDataset,
        *,
        on_batch: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """The outputs of the model's head `[examples, ...]`; see `predict`."""
        pad_id = self.encoder.tokenizer.pad_id
        return predict_outputs(
            self._model, dataset, self._batching, pad_id, on_batch=on_batch
        )

    def evaluate(
        self, dataset: EncodedDataset, *, progress: TextIO | None = None
    ) -> dict[str, Any]:
        """The task's metrics of a labelled data set.

        Args:
            progress: where to show how far it is; None for nowhere.

        Raises:
            DataError: a label that training never saw.
        """
        targets = self.task.targets(dataset)
        if progress is None:
            return self.task.metrics(self.predict(dataset), targets)
        num_batches = len(self._batching.groups(dataset.lengths))
        done = itertools.count(1)
        with ProgressLine(
            num_batches, progress, label=f"evaluating {dataset.name}", unit="batches"
        ) as line:
            predictions = self.predict(
                dataset, on_batch=lambda *counts: line.update(next(done), *counts)
            )
        return self.task.metrics(predictions, targets)

    def answers(self, texts: Iterable[Text]) -> Iterator[dict[str, Any]]:
        """Answers texts, or pairs of texts, in their order, as a stream.

        Raises:
            RunError: pairs for a run of single texts, or the other way round.
            TypeError: neither a text nor a pair of texts.
        """
        remaining = iter(texts)
        start = 0
        while window := list(islice(remaining, WINDOW)):
            texts_of = self._take_apart(window, start)
            start += len(window)
            answers = self.task.answers(self.predict(self._encode(texts_of)))
            for *given, answer in zip(*texts_of.values(), answers, strict=True):
                yield dict(zip(texts_of, given, strict=True)) | answer

    def encode(self, texts: Sequence[Text]) -> EncodedDataset:
        """Encodes texts, or pairs of texts, that fit in memory, for `predict`.

        Raises:
            RunError: pairs for a run of single texts, or the other way round.
            TypeError: neither a text nor a pair of texts.
        """
        return self._encode(self._take_apart(list(texts), start=0))

    def _encode(self, texts_of: dict[str, list[str]]) -> EncodedDataset:
        return encode_texts(self._encode_graph, *texts_of.values())

    def _take_apart(self, window: list[Text], start: int) -> dict[str, list[str]]:
        """The window by column: `text`, and for a pair task `text_pair`.

        Args:
            start: the number of the window's first text.
        """
        for number, text in enumerate(window, start):
            check_text(text, number)
            if isinstance(text, str) == self.is_paired:
                wants = "pairs of texts" if self.is_paired else "single texts"
                raise RunError(
                    f"The run {self.run.path} was trained on {wants}. Received: "
                    f"{text!r:.80}. A pair is (text, text_pair), or two columns of "
                    "--input FILE.csv."
                )
        if not self.is_paired:
            return {"text": [text for text in window if isinstance(text, str)]}
        firsts, seconds = zip(*window, strict=True)
        return {"text": list(firsts), "text_pair": list(seconds)}

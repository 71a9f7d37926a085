"""Export: a run in, a version of a served model out."""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kbert.disk_errors import disk_errors_of
from kbert.errors import ExportError
from kbert.exporting import card, server_files, warmup
from kbert.exporting.backend import check_backend
from kbert.exporting.checks.tokenizer import VOCABULARY_FILE_NAME
from kbert.exporting.fresh import FreshServable
from kbert.exporting.golden import TEXTS, TOLERANCES, Golden, GoldenCall, golden_texts
from kbert.exporting.saved_model import write_saved_model
from kbert.exporting.versions import building, check_target, model_name, publish
from kbert.files import write_json, write_text
from kbert.runs import RunFolder, open_run
from kbert.settings import ExportSettings
from kbert.tasks import is_pretrained
from kbert.tasks.served import LENGTH_MULTIPLE, ServedModel, Signature
from kbert.workflows.machine import versions
from kbert.workflows.predictor import Predictor

logger = logging.getLogger(__name__)

_SIGNATURE = "serving_default"
# Weights once, graphs and the vocabulary a few times.
_OVERHEAD_BYTES = 50_000_000


@dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        path: the version's folder.
        signatures: its signatures, by name.
        difference: the largest difference to a number that the run answers.
        num_texts: how many texts that was seen on.
    """

    path: Path
    signatures: dict[str, Signature]
    difference: float
    num_texts: int


def export(
    run: RunFolder | str | os.PathLike[str],
    output: Path,
    *,
    version: int | None = None,
    settings: ExportSettings,
) -> Export:
    """Writes a run as `output/VERSION`, which TensorFlow Serving serves.

    What was written is loaded again as a server does, in a process that has neither
    Keras nor kbert, and has to answer as the run does before it is published.

    Args:
        run: a run folder, or its path.
        output: the model's folder; its name is the model's.
        version: its number; None for the next free one.
        settings: precision and batching.

    Raises:
        RunError: the run is no run, or damaged.
        ExportError: the folder or the version will not do, the run was pretrained
            only, or the export answers otherwise than the run.
        OSError: the folder cannot be written. Nothing is left of the version.
    """
    check_target(output, version)
    check_backend(keras.config.backend())
    folder = run if isinstance(run, RunFolder) else open_run(run)
    _check_is_finetuned(folder)
    predictor = Predictor(folder)
    served = _load(predictor, settings.precision)
    signatures = predictor.task.signatures(served)
    golden = _golden(predictor, served, signatures, settings.precision)
    with disk_errors_of(output), building(output) as hidden:
        # Without the state of dropout's random numbers, which is of training.
        variables = [weight.value for weight in served.model.weights]
        write_saved_model(hidden, signatures, variables)
        extra = hidden / "assets.extra"
        extra.mkdir()
        golden.write(extra)
        vocabulary = served.encoder.tokenizer.vocabulary
        write_text(extra / VOCABULARY_FILE_NAME, "".join(f"{t}\n" for t in vocabulary))
        logger.info("loading what was written in a fresh process")
        with FreshServable(hidden) as fresh:
            difference = golden.difference(fresh.call)
            calls = _warmup_calls(fresh, served, signatures, settings)
        name = model_name(output)
        num_calls = warmup.write_warmup(extra / warmup.FILE_NAME, name, calls)
        logger.info("%d warm-up requests", num_calls)
        _write_server_files(extra, name, settings)
        write_json(
            extra / card.FILE_NAME,
            card.build_card(
                name=name,
                task=folder.read_task(),
                run=_origin(folder),
                signatures=signatures,
                settings=settings,
                versions=versions(),
            ),
        )
        path = publish(hidden, output, version)
    return Export(path, signatures, difference, len(TEXTS))


def _check_is_finetuned(run: RunFolder) -> None:
    if is_pretrained(run.read_task()):
        raise ExportError(
            f"An export answers with labels, and the run {run.path} was pretrained "
            "only. Fine-tune it, and export what comes of it: "
            f"kbert finetune --preset {run.path} --data DATA"
        )


def _load(predictor: Predictor, precision: str) -> ServedModel:
    folder = str(predictor.run.model_folder)
    model = predictor.task.load_model(folder, dtype=precision)
    return ServedModel(predictor.encoder, model, predictor.is_paired)


def _golden(
    predictor: Predictor,
    served: ServedModel,
    signatures: Mapping[str, Signature],
    precision: str,
) -> Golden:
    """The fixed texts for each signature, with what the run answers to them."""
    texts = golden_texts(is_paired=predictor.is_paired)
    outputs = predictor.outputs(predictor.encode(texts))
    expected = predictor.task.served_outputs(outputs)
    rows = [(text,) if isinstance(text, str) else text for text in texts]
    names = [spec.name for spec in served.text_inputs]
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    calls = {
        name: GoldenCall(served.examples_of(signature, columns), expected[name])
        for name, signature in signatures.items()
    }
    return Golden(precision, TOLERANCES[precision], calls)


def _warmup_calls(
    fresh: FreshServable,
    served: ServedModel,
    signatures: Mapping[str, Signature],
    settings: ExportSettings,
) -> list[tuple[str, dict[str, np.ndarray]]]:
    """The warm-up requests, after trying the costliest of them."""
    inputs = [spec.name for spec in served.text_inputs]
    sizes = warmup.batch_sizes(settings.max_batch_size)
    lengths = warmup.lengths(served.encoder.max_length, LENGTH_MULTIPLE)
    largest = [(sizes[-1], lengths[-1])]
    ((_, feeds),) = warmup.requests(largest, inputs, signature=_SIGNATURE)
    fresh.call(_SIGNATURE, feeds)
    start = time.perf_counter()
    fresh.call(_SIGNATURE, feeds)
    seconds = time.perf_counter() - start
    shapes = warmup.plan(sizes, lengths, seconds_of_largest=seconds)
    # Of the others the first request is dear, whatever its shape.
    one_text = {name: [warmup.ONE_TOKEN] for name in inputs}
    others = [
        (name, served.examples_of(signature, one_text))
        for name, signature in signatures.items()
        if name != _SIGNATURE
    ]
    return [*warmup.requests(shapes, inputs, signature=_SIGNATURE), *others]


def _write_server_files(extra: Path, name: str, settings: ExportSettings) -> None:
    write_text(
        extra / server_files.BATCHING_FILE_NAME,
        server_files.batching_parameters(settings),
    )
    write_text(
        extra / server_files.MODEL_CONFIG_FILE_NAME, server_files.model_config(name)
    )


def _origin(folder: RunFolder) -> dict[str, Any]:
    """What the card says of the run; folders of this machine are left out."""
    info = folder.read_info()
    data = {
        split: {**facts, "name": _last_part(facts.get("name", ""))}
        for split, facts in info.get("data", {}).items()
        if isinstance(facts, dict)
    }
    return {
        "preset": _last_part(folder.read_config().model.preset),
        "metrics": folder.read_metrics(),
        "data": data,
        "trained_with": info.get("versions", {}),
    }


def _last_part(name: str) -> str:
    return Path(name).name if os.path.isabs(name) else name

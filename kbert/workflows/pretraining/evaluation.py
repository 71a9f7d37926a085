"""How well a pretrained run tells masked tokens and next sentences."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

from kbert.config import load_config
from kbert.data.corpus import Corpus
from kbert.data.corpus_paths import is_named
from kbert.data.pretraining import TextExamples
from kbert.data.pretraining_examples import ExampleRecipe, Examples
from kbert.errors import ConfigError
from kbert.pretrain_settings import PretrainConfig
from kbert.progress import ProgressLine
from kbert.runs import RunFolder
from kbert.tasks.masked_lm import MaskedLM
from kbert.tokenization import WordPieceTokenizer
from kbert.training.masked_data import compile_mask
from kbert.training.masked_scores import METRICS, PretrainingScores, evaluate_examples
from kbert.workflows.applying import preset_of, tokenizer_of
from kbert.workflows.pretraining.held_out import check_documents
from kbert.workflows.pretraining.masking import build_mask
from kbert.workflows.pretraining.model import load_pretrained
from kbert.workflows.pretraining.reading import own_material
from kbert.workflows.pretraining.text import (
    first_split,
    open_text,
    warn_of_broken_text,
)

# Of a data set, the first of these that it has, as of labelled data.
_EVALUATED = ("test", "validation", "train")

logger = logging.getLogger(__name__)

# The settings that say how text is read; all others shaped the run's model.
READING = tuple(
    f"data.{name}"
    for name in (
        "document",
        "text",
        "train_split",
        "data_dir",
        "encoding_errors",
        "limit",
    )
)


def evaluate_pretrained(
    run: RunFolder,
    *,
    data: str | None = None,
    split: str | None = None,
    assignments: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    precision: str = "float32",
    progress: TextIO | None = None,
) -> dict[str, Any]:
    """Evaluates a pretrained run on text, all of it, masked by the run's seed.

    Args:
        data: what to read, a source as of `kbert pretrain`; None for what the run was
            measured on.
        split: the split of a `tfds:` source.
        assignments: `data.NAME=VALUE`, over the settings the run was trained with.
        settings: the same as a mapping.
        precision: a Keras dtype policy.
        progress: where to show how far it is; None for nowhere.

    Returns:
        The metrics of `kbert.training.masked_scores.METRICS` and the counts.

    Raises:
        UserError: the text cannot be read or gives no example, or the run is damaged.
    """
    config = _config(run, data, split, assignments, settings or {})
    task = MaskedLM.from_dict(run.read_task(), str(run.task_file))
    preset = preset_of(run)
    tokenizer = tokenizer_of(preset)
    given = _names_given(split, assignments, settings or {})
    if data is None:
        blocks, read = _own_examples(run, config, task, tokenizer, given)
    else:
        read = [open_text(config.data)]
        _warn_of_idle(read[0].idle, given)
        blocks = _examples(read[0], config, task, tokenizer)
    model = load_pretrained(preset, next_sentence=task.next_sentence, dtype=precision)
    scores = PretrainingScores(model)
    scores.compile()
    mask = build_mask(
        tokenizer, config.data, max_length=task.max_length, seed=config.train.seed
    )
    with _counting_batches(progress) as on_batch:
        metrics = evaluate_examples(
            scores,
            blocks,
            compile_mask(mask),
            max_length=task.max_length,
            pad_id=tokenizer.pad_id,
            next_sentence_weight=config.train.next_sentence_weight,
            on_batch=on_batch,
        )
    warn_of_broken_text(*read)
    return metrics


@contextlib.contextmanager
def _counting_batches(
    progress: TextIO | None,
) -> Iterator[Callable[[int, int], None] | None]:
    """What to tell the examples and tokens of each batch to."""
    if progress is None:
        yield None
        return
    num_done = 0
    with ProgressLine(None, progress, label="evaluating", unit="batches") as line:

        def count(num_examples: int, num_tokens: int) -> None:
            nonlocal num_done
            num_done += 1
            line.update(num_done, num_examples, num_tokens)

        yield count


def format_pretraining_metrics(metrics: Mapping[str, Any]) -> str:
    """A line a metric, for people."""
    names = [name for name in METRICS if name in metrics and name != "loss"]
    lines = [f"{name.replace('_', ' '):<24}{metrics[name]:.4f}" for name in names]
    counts = f"{metrics['num_examples']:,} examples, {metrics['num_masked']:,} masks"
    return "\n".join([*lines, f"({counts})"])


def _config(
    run: RunFolder,
    data: str | None,
    split: str | None,
    assignments: Sequence[str],
    settings: Mapping[str, Any],
) -> PretrainConfig:
    keys = [item.partition("=")[0].strip() for item in assignments]
    allowed = ("data.data_dir",) if data is None else READING
    for key in [*keys, *settings]:
        if key not in allowed:
            raise ConfigError(
                f"{key} has no effect here, on a run that is trained already"
                f"{' and its own text' if data is None else ''}. What may be set: "
                f"{', '.join(allowed)}."
            )
    if split is not None and data is None:
        raise ConfigError("--split is of --data, which is not given.")
    options = {**settings, "data.train_split": split}
    if data is not None:
        options["data.sources"] = [data]
    config = load_config(
        PretrainConfig,
        file=run.config_file,
        assignments=assignments,
        options=options,
        option_names={"data.train_split": "--split"},
    )
    if data is None:
        return config
    given = {*keys, *settings}
    # What bounds or chooses the run's own text is not meant for another one.
    updates: dict[str, Any] = {} if "data.limit" in given else {"limit": None}
    if split is None and "data.train_split" not in given and is_named(data):
        data_dir = config.data.data_dir
        updates["train_split"] = first_split(data, _EVALUATED, data_dir)
        logger.info("evaluating the split %s", updates["train_split"])
    other = config.data.model_copy(update=updates)
    return config.model_copy(update={"data": other})


def _own_examples(
    run: RunFolder,
    config: PretrainConfig,
    task: MaskedLM,
    tokenizer: WordPieceTokenizer,
    given: Mapping[str, str],
) -> tuple[Iterable[Examples], list[Corpus]]:
    """The held-out examples of a run, and the text of its own that they are from."""
    material, reading = own_material(config, tokenizer)
    _warn_of_idle(reading.idle, given)
    if config.data.validation is None:
        _warn_of_changes(run, material.describe())
    examples = material.validation_examples(task.max_length)
    return [examples], [] if reading.validation is None else [reading.validation]


def _names_given(
    split: str | None, assignments: Sequence[str], settings: Mapping[str, Any]
) -> dict[str, str]:
    """The settings that the user gives, and their names for messages."""
    keys = [*(item.partition("=")[0].strip() for item in assignments), *settings]
    named = {key: key for key in keys}
    return named if split is None else named | {"data.train_split": "--split"}


def _warn_of_idle(idle: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Says which of the settings given have no effect on the text that is read."""
    for key, name in given.items():
        if key in idle:
            logger.warning("%s has no effect: %s.", name, idle[key])


def _examples(
    corpus: Corpus,
    config: PretrainConfig,
    task: MaskedLM,
    tokenizer: WordPieceTokenizer,
) -> Iterable[Examples]:
    """All examples of a text."""
    if task.next_sentence:
        check_documents(corpus, 2, "The run was trained on pairs: give it more text")
    recipe = ExampleRecipe(
        max_length=task.max_length,
        next_sentence=task.next_sentence,
        short_rate=config.data.short_sequence_rate,
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
    )
    source = TextExamples(
        corpus,
        tokenizer,
        recipe,
        seed=config.train.seed,
        keep=lambda *document: True,
    )
    return source.blocks(0)


def _warn_of_changes(run: RunFolder, now: Mapping[str, Any]) -> None:
    """Says when the documents held out may not be those that the run held out."""
    then = run.read_info().get("data", {})
    if _fingerprints(then) not in ([], _fingerprints(now)):
        logger.warning(
            "%s is not as it was when %s was trained: some of what is held out now may "
            "have been trained on. Give other text with --data.",
            now["name"],
            run.path,
        )


def _fingerprints(data: Mapping[str, Any]) -> list[str]:
    return [file["fingerprint"] for file in data.get("files", [])]

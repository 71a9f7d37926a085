"""How well a pretrained run tells masked tokens and next sentences."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from kbert.config import load_config
from kbert.data.corpus import open_corpus
from kbert.data.pretraining import TextExamples
from kbert.data.pretraining_examples import ExampleRecipe, Examples
from kbert.errors import ConfigError
from kbert.presets import resolve_preset
from kbert.pretrain_settings import PretrainConfig
from kbert.progress import ProgressLine
from kbert.runs import RunFolder
from kbert.tasks.masked_lm import MaskedLM
from kbert.tokenization import WordPieceTokenizer
from kbert.training.masked_data import compile_mask
from kbert.training.masked_scores import METRICS, PretrainingScores, evaluate_examples
from kbert.workflows.pretraining.masking import build_mask
from kbert.workflows.pretraining.model import load_pretrained
from kbert.workflows.pretraining.reading import own_material
from kbert.workflows.pretraining.text import corpus_options

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
    preset = resolve_preset(str(run.path.absolute()))
    tokenizer = WordPieceTokenizer(
        preset.vocabulary,
        lowercase=preset.lowercase,
        strip_accents=preset.strip_accents,
    )
    own = run if data is None else None
    blocks = _blocks(config, task, tokenizer, own)
    model = load_pretrained(preset, next_sentence=task.next_sentence, dtype=precision)
    scores = PretrainingScores(model)
    scores.compile()
    mask = build_mask(
        tokenizer, config.data, max_length=task.max_length, seed=config.train.seed
    )

    def evaluate(line: ProgressLine | None) -> dict[str, Any]:
        num_done = 0

        def count(num_examples: int, num_tokens: int) -> None:
            nonlocal num_done
            num_done += 1
            if line is not None:
                line.update(num_done, num_examples, num_tokens)

        return evaluate_examples(
            scores,
            blocks,
            compile_mask(mask),
            max_length=task.max_length,
            pad_id=tokenizer.pad_id,
            next_sentence_weight=config.train.next_sentence_weight,
            on_batch=count,
        )

    if progress is None:
        return evaluate(None)
    with ProgressLine(None, progress, label="evaluating", unit="batches") as line:
        return evaluate(line)


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
    if data is None or "data.limit" in (*keys, *settings):
        return config
    whole = config.data.model_copy(update={"limit": None})
    return config.model_copy(update={"data": whole})


def _blocks(
    config: PretrainConfig,
    task: MaskedLM,
    tokenizer: WordPieceTokenizer,
    own: RunFolder | None,
) -> Iterable[Examples]:
    """The examples to measure on.

    Args:
        own: the run, where its own held-out text is meant.
    """
    if own is not None:
        material = own_material(config, tokenizer)
        if config.data.validation is None:
            _warn_of_changes(own, material.describe())
        return [material.validation_examples(task.max_length)]
    corpus = open_corpus(config.data.sources, corpus_options(config.data))
    for note in corpus.notes:
        logger.info("%s", note)
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

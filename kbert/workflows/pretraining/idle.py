"""Settings of a pretraining that have no effect on it, to be said."""

from collections.abc import Iterator, Mapping

from kbert.pretrain_settings import PretrainConfig
from kbert.settings import Settings


def is_given(settings: Settings, name: str) -> bool:
    """Whether a setting is given, which is where it differs from its default.

    The config of an earlier run names every setting.
    """
    return getattr(settings, name) != type(settings).model_fields[name].default


def idle_settings(config: PretrainConfig, of_text: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each setting that is given and has no effect.

    Args:
        of_text: setting -> why it has none on the text that is read.
    """
    data, train = config.data, config.train
    idle = dict(of_text)
    if train.next_sentence_weight == 0:
        idle["data.short_sequence_rate"] = "it is for pairs of segments"
    if data.validation is not None:
        idle["data.validation_share"] = "data.validation is held-out text"
    if train.tokens_per_batch is not None:
        idle["train.batch_size"] = "train.tokens_per_batch takes its place"
    if (train.eval_steps or 0) >= train.max_steps:
        idle["train.eval_steps"] = (
            f"the training has {train.max_steps} steps, and is evaluated at its end in "
            "any case"
        )
    for key, reason in idle.items():
        section, _, name = key.partition(".")
        settings = getattr(config, section)
        if is_given(settings, name):
            yield f"{key} = {getattr(settings, name)} has no effect: {reason}."
    if train.warmup_steps is not None and train.warmup_steps >= train.max_steps:
        yield (
            f"train.warmup_steps = {train.warmup_steps}: the training has "
            f"{train.max_steps} steps, so that the learning rate only rises."
        )


# What decides the examples, and not how a model is trained on them.
_OF_EXAMPLES = {
    "model": {"preset", "vocabulary", "vocabulary_size", "lowercase", "strip_accents"},
    "train": {"seed", "next_sentence_weight"},
}
_OF_MASKS = {
    "mask_selection_rate",
    "mask_token_rate",
    "random_token_rate",
    "whole_word",
}


def idle_when_preparing(config: PretrainConfig) -> Iterator[str]:
    """A sentence where settings are given that do not matter to `--prepare-only`."""
    idle = [
        f"{section}.{name}"
        for section, settings in config
        for name in type(settings).model_fields
        if is_given(settings, name)
        and (
            name in _OF_MASKS
            if section == "data"
            else name not in _OF_EXAMPLES[section]
        )
    ]
    if idle:
        yield (
            f"{', '.join(idle)}: without effect on the examples; give it again when "
            "the prepared folder is trained on."
        )

"""The work of `kbert pretrain`, on random tokens."""

import itertools
import time

import keras

from kbert.preset_files import Architecture, read_architecture
from kbert.presets import Preset, resolve_preset
from kbert.pretrain_settings import PretrainConfig
from kbert.tokenization import WordPieceTokenizer
from kbert.training.loop import update
from kbert.training.masked_data import MaskedData, Phase, compile_mask
from kbert.training.precision import choose
from kbert.vocabulary import SPECIAL_TOKENS
from kbert.workflows.benching.models import NUM_BATCHES, row_length
from kbert.workflows.benching.operations import (
    forward_operations,
    masked_lm_operations,
    training_operations,
)
from kbert.workflows.benching.rows import RandomPairs
from kbert.workflows.benching.speed import Workload
from kbert.workflows.pretraining.masking import build_mask
from kbert.workflows.pretraining.model import (
    build_model,
    compile_pretraining,
    load_weights_of,
)
from kbert.workflows.pretraining.resolving import (
    DEFAULT_VOCABULARY_SIZE,
    check_settings,
    resolve_pretraining,
)
from kbert.workflows.pretraining.sizes import DEFAULT_SIZE, new_architecture


def pretraining(config: PretrainConfig, *, num_steps: int) -> Workload:
    """Updates with both losses, each with the masking and laying out of its batch.

    A new model has as many tokens as `kbert pretrain` gives it at most. Reading and
    tokenizing text is left out, which runs beside the training.

    Args:
        config: `model.preset` or `model.size`, `data.max_length`, `train.batch_size`
            and `train.precision` count.
        num_steps: how often the step will be done.

    Raises:
        UserError: settings contradict each other or do not fit the preset, or the
            preset cannot be used.
    """
    check_settings(config)
    keras.utils.set_random_seed(config.train.seed)
    name, length = config.model.preset, config.data.max_length
    preset = None if name is None else resolve_preset(name)
    if preset is not None:
        given = "max_length" in config.data.model_fields_set
        length = row_length(length if given else None, preset)
    architecture = _architecture(config, preset, length)
    choice = choose(config.train.precision, config.train.jit_compile)
    train = config.train.model_copy(update={"max_steps": num_steps})
    config = resolve_pretraining(
        config.model_copy(update={"train": train}),
        architecture,
        choice,
        lowercase=True,
        strip_accents=True,
        trains_vocabulary=False,
        has_weights=preset is not None and preset.has_weights,
    )
    start = time.perf_counter()
    next_sentence = config.train.next_sentence_weight > 0
    model = build_model(
        architecture, next_sentence=next_sentence, dtype=choice.precision
    )
    if preset is not None:
        load_weights_of(preset, model)
    compile_pretraining(model, config.train)
    build_seconds = time.perf_counter() - start
    data, num_slots = _data(config, preset, length, num_steps)
    updates, numbers = data.updates(num_steps), itertools.count(1)
    batch_size = config.train.batch_size

    return Workload(
        kind="pretrain",
        model=name or f"new {config.model.size or DEFAULT_SIZE}",
        architecture=architecture,
        batch_size=batch_size,
        length=length,
        choice=choice,
        operations=training_operations(
            forward_operations(architecture, batch_size, length, 1 + num_slots)
            + masked_lm_operations(architecture, batch_size, num_slots)
        ),
        build_seconds=build_seconds,
        step=lambda: update(model, next(updates).batches, next(numbers)),
    )


def _architecture(
    config: PretrainConfig, preset: Preset | None, length: int
) -> Architecture:
    if preset is not None:
        return read_architecture(preset.folder)[1]
    return new_architecture(
        config.model, vocabulary_size=DEFAULT_VOCABULARY_SIZE, max_length=length
    )


def _data(
    config: PretrainConfig, preset: Preset | None, length: int, num_steps: int
) -> tuple[MaskedData, int]:
    """Batches of random tokens with fresh masks, and the prediction slots of a row."""
    vocabulary = _made_up_vocabulary() if preset is None else preset.vocabulary
    tokenizer = WordPieceTokenizer(vocabulary, lowercase=True, strip_accents=True)
    mask = build_mask(tokenizer, config.data, max_length=length, seed=config.train.seed)
    batch_size = config.train.batch_size
    source = RandomPairs(vocabulary, NUM_BATCHES * batch_size, length)
    phase = Phase(source, compile_mask(mask), length, batch_size, num_steps)
    data = MaskedData(
        [phase],
        pad_id=tokenizer.pad_id,
        next_sentence=config.train.next_sentence_weight > 0,
    )
    return data, mask.mask_selection_length


def _made_up_vocabulary() -> tuple[str, ...]:
    """As large as one that is trained on much text."""
    num_words = DEFAULT_VOCABULARY_SIZE - len(SPECIAL_TOKENS)
    return (*SPECIAL_TOKENS, *(f"w{number}" for number in range(num_words)))

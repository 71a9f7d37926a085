"""From settings and a start to a BERT that is ready to be pretrained, and back.

What is saved is a keras-hub preset: a BertMaskedLM with its tokenizer. The head of the
next sentence, which keras-hub has no place for, lies beside it in the same folder.
"""

from dataclasses import asdict, dataclass
from typing import Any

import keras_hub

from kbert.encoder import copy_from_keras_hub, copy_to_keras_hub
from kbert.errors import PresetError
from kbert.models import MASKED_LM, NEXT_SENTENCE, BertForPretraining
from kbert.preset_files import Architecture, read_architecture
from kbert.preset_heads import load_heads, save_next_sentence_head
from kbert.presets import Preset, load_backbone
from kbert.pretrain_settings import PretrainTrainSettings
from kbert.runs import RunFolder
from kbert.training.compiling import build_schedule, compile_to_train
from kbert.training.lamb import Lamb
from kbert.training.losses import CrossEntropyOfLogits
from kbert.training.optimizer import AdamW, WarmupSchedule

_BYTES_PER_WEIGHT = 4  # float32


@dataclass(frozen=True)
class Vocabulary:
    """The tokens, and how text becomes them."""

    tokens: tuple[str, ...]
    lowercase: bool
    strip_accents: bool

    def keras_hub_tokenizer(self) -> keras_hub.models.BertTokenizer:
        """The tokenizer that a preset keeps."""
        return keras_hub.models.BertTokenizer(
            list(self.tokens),
            lowercase=self.lowercase,
            strip_accents=self.strip_accents,
            name="tokenizer",
        )


@dataclass(frozen=True)
class Pretrainee:
    """The model in training.

    Attributes:
        model: compiled.
        schedule: the learning rate of an update, by its number counted from 0.
        mask: the rate and the slots of the masking, for the saved preprocessor.
    """

    model: BertForPretraining
    architecture: Architecture
    vocabulary: Vocabulary
    schedule: WarmupSchedule
    mask_selection_rate: float
    mask_selection_length: int
    max_length: int

    def save(self, run: RunFolder) -> None:
        """Makes the weights as they are now the run's model, in float32."""
        # Named, since Keras by itself counts the models of a process.
        backbone = keras_hub.models.BertBackbone(
            **asdict(self.architecture), dtype="float32", name="bert_backbone"
        )
        preprocessor = keras_hub.models.BertMaskedLMPreprocessor(
            self.vocabulary.keras_hub_tokenizer(),
            sequence_length=self.max_length,
            mask_selection_rate=self.mask_selection_rate,
            mask_selection_length=self.mask_selection_length,
            name="preprocessor",
        )
        masked_lm = keras_hub.models.BertMaskedLM(
            backbone, preprocessor, name="bert_masked_lm"
        )
        copy_to_keras_hub(self.model, masked_lm)
        num_bytes = _BYTES_PER_WEIGHT * masked_lm.count_params()
        with run.writing_model(num_bytes) as folder:
            masked_lm.save_to_preset(str(folder))
            save_next_sentence_head(self.model, folder)


def build_model(
    architecture: Architecture, *, next_sentence: bool, dtype: str, **arguments: Any
) -> BertForPretraining:
    """kbert's BERT of an architecture, with random weights."""
    return BertForPretraining(
        **asdict(architecture),
        next_sentence=next_sentence,
        dtype=dtype,
        name="bert_for_pretraining",
        **arguments,
    )


def load_weights_of(preset: Preset, model: BertForPretraining) -> list[str]:
    """Loads a preset into kbert's BERT, with the pretraining heads that it has.

    Returns:
        What the preset lacks and therefore starts from random weights.

    Raises:
        PresetError: weights cannot be read, or do not fit.
    """
    backbone = load_backbone(preset)
    copy_from_keras_hub(backbone, model)
    return load_heads(preset, backbone, model)


def compile_pretraining(
    model: BertForPretraining, settings: PretrainTrainSettings
) -> WarmupSchedule:
    """Compiles the model to train.

    Args:
        settings: as resolved, without `auto`.

    Returns:
        The learning rate over the steps.
    """
    assert not isinstance(settings.learning_rate, str), "settings are resolved"
    schedule = build_schedule(
        settings.learning_rate,
        warmup_ratio=settings.warmup_ratio,
        warmup_steps=settings.warmup_steps,
        total_steps=settings.max_steps,
        shape=settings.schedule,
    )
    accumulation = settings.gradient_accumulation_steps
    optimizer_class = Lamb if settings.optimizer == "lamb" else AdamW
    optimizer = optimizer_class(
        learning_rate=schedule,
        decay=settings.weight_decay,
        global_clipnorm=settings.clip_norm or None,
        gradient_accumulation_steps=accumulation if accumulation > 1 else None,
    )
    weights = {MASKED_LM: 1.0}
    if model.next_sentence_head is not None:
        weights[NEXT_SENTENCE] = settings.next_sentence_weight
    compile_to_train(
        model,
        optimizer,
        loss={name: CrossEntropyOfLogits() for name in weights},
        loss_weights=weights,
        precision=settings.precision,
        jit_compile=bool(settings.jit_compile),
    )
    return schedule


def load_pretrained(
    preset: Preset, *, next_sentence: bool, dtype: str = "float32"
) -> BertForPretraining:
    """The model of a pretrained run.

    Raises:
        PresetError: weights cannot be read, do not fit, or a head is missing.
    """
    _, architecture = read_architecture(preset.folder)
    model = build_model(architecture, next_sentence=next_sentence, dtype=dtype)
    if missing := load_weights_of(preset, model):
        raise PresetError(f"{preset.folder} has no {' and no '.join(missing)}.")
    return model

"""Hugging Face's side of finetune.py: its Trainer.

Runs in an environment of its own (requirements-peers.txt):

    python -m benchmarks.speed.peer_finetune MODEL TRAIN TEST FOLDER '{"bf16": true}'

Prints a JSON line: seconds of the training and of the evaluation, and the accuracy.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

from benchmarks.speed.reviews import (
    BATCH_SIZE,
    LEARNING_RATE,
    MAX_LENGTH,
    SEED,
    WARMUP_RATIO,
    WEIGHT_DECAY,
    read_reviews,
)


class Reviews(torch.utils.data.Dataset):
    """Tokenized reviews with their labels, padded to MAX_LENGTH or not at all."""

    def __init__(
        self,
        path: str,
        tokenizer: transformers.PreTrainedTokenizerBase,
        padding: bool | str,
    ) -> None:
        texts, self._labels = read_reviews(Path(path))
        self._encoded = tokenizer(
            texts, truncation=True, max_length=MAX_LENGTH, padding=padding
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> dict[str, object]:
        features = {name: values[index] for name, values in self._encoded.items()}
        return features | {"labels": self._labels[index]}


class Announcer(transformers.TrainerCallback):
    """Says after each step what kbert's progress line says."""

    def on_step_end(
        self,
        args: transformers.TrainingArguments,
        state: transformers.TrainerState,
        control: transformers.TrainerControl,
        **kwargs: object,
    ) -> None:
        """See `TrainerCallback`."""
        print(f"{state.global_step}/{state.max_steps} steps", flush=True)


def main() -> int:
    model, train_file, test_file, folder, settings = sys.argv[1:]
    result = finetune(model, train_file, test_file, folder, **json.loads(settings))
    print(json.dumps(result))
    return 0


def finetune(
    model_folder: str,
    train_file: str,
    test_file: str,
    folder: str,
    *,
    bf16: bool = False,
    sampling: str = "group_by_length",
    padding: bool | str = False,
    announces: bool = False,
) -> dict[str, float]:
    """Trains for an epoch and evaluates.

    Args:
        bf16: autocast.
        sampling: the Trainer's `train_sampling_strategy`.
        padding: `max_length`, as tutorials have it; False: to a batch's longest.
        announces: whether each step is said to be done.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder)
    train = Reviews(train_file, tokenizer, padding)
    test = Reviews(test_file, tokenizer, padding)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        model_folder
    )
    arguments = transformers.TrainingArguments(
        output_dir=folder,
        num_train_epochs=1,
        per_device_train_batch_size=BATCH_SIZE,
        per_device_eval_batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        warmup_steps=WARMUP_RATIO,  # a share where it is below 1
        weight_decay=WEIGHT_DECAY,
        bf16=bf16,
        use_cpu=True,
        train_sampling_strategy=sampling,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=SEED,
    )
    trainer = transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=test,
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=accuracy,
        callbacks=[Announcer()] if announces else None,
    )
    trained = trainer.train()
    figures = trainer.evaluate()
    trainer.save_model()
    return {
        "training": trained.metrics["train_runtime"],
        "evaluation": figures["eval_runtime"],
        "accuracy": figures["eval_accuracy"],
    }


def accuracy(prediction: transformers.EvalPrediction) -> dict[str, float]:
    """The share of rows whose class is right."""
    classes = np.argmax(prediction.predictions, axis=-1)
    return {"accuracy": float(np.mean(classes == prediction.label_ids))}


if __name__ == "__main__":
    sys.exit(main())

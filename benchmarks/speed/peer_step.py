"""Hugging Face's side of step.py: a classifier that trains on command.

Runs in an environment of its own (requirements-peers.txt):

    python -m benchmarks.speed.peer_step 6x384_32x128 full '{"dtype": "bfloat16"}'

The second argument is `full` or `quick`. Lines of stdin are numbers of steps; see
`benchmarks.pretraining.worker`.
"""

import json
import sys
from collections.abc import Callable

import torch
import transformers

from benchmarks.pretraining.batches import NUM_THREADS, Batch, hugging_face_config
from benchmarks.pretraining.peer_step import parameter_groups
from benchmarks.pretraining.worker import obey
from benchmarks.speed.classifiers import (
    CASES,
    CLIP_NORM,
    DROPOUT,
    LEARNING_RATE,
    NUM_CLASSES,
    QUICK,
    Case,
    make_batches,
)


def main() -> int:
    name, size, settings = sys.argv[1:]
    case = (QUICK if size == "quick" else CASES)[name]
    obey(lambda: make_step(case, **json.loads(settings)))
    return 0


def make_step(
    case: Case,
    *,
    dtype: str = "float32",
    attention: str = "sdpa",
    adamw: str = "fused",
    activation: str = "gelu_pytorch_tanh",
    matmul: str = "highest",
    compiled: bool = False,
) -> tuple[str, Callable[[int], float]]:
    """The training step of a shape: forward, backward, clipping, AdamW.

    Args:
        dtype: `bfloat16` for autocast.
        attention: `sdpa` or `eager`.
        adamw: torch's `fused` or `foreach` implementation.
        activation: Hugging Face's `hidden_act`; the default is what kbert computes.
        matmul: `medium` lets float32 products be computed in bfloat16.
        compiled: whether torch.compile compiles forward and backward.
    """
    torch.set_num_threads(NUM_THREADS)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision(matmul)
    config = transformers.BertConfig(
        **hugging_face_config(case.shape, activation, DROPOUT),
        num_labels=NUM_CLASSES,
        attn_implementation=attention,
    )
    model = transformers.BertForSequenceClassification(config).train()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        parameter_groups(model), lr=LEARNING_RATE, eps=1e-6, **{adamw: True}
    )
    batches = [to_torch(batch) for batch in make_batches(case)]
    forward = torch.compile(model) if compiled else model

    def step(number: int) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = forward(**batches[number % len(batches)]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return f"torch {torch.__version__}, transformers {transformers.__version__}", step


def to_torch(batch: Batch) -> dict[str, torch.Tensor]:
    """A batch under Hugging Face's names."""
    arrays = {
        "input_ids": batch["token_ids"],
        "token_type_ids": batch["segment_ids"],
        "attention_mask": batch["padding_mask"],
        "labels": batch["next_sentence_labels"],
    }
    return {name: torch.from_numpy(array).long() for name, array in arrays.items()}


if __name__ == "__main__":
    sys.exit(main())

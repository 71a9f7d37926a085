"""The peer's side of step.py: a Hugging Face BertForPreTraining that trains on command.

Runs in an environment of its own (requirements-peers.txt):

    python -m benchmarks.pretraining.peer_step mini '{"dtype": "bfloat16"}'

Lines of stdin are numbers of steps; see worker.py.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import torch
import transformers

from benchmarks.pretraining.batches import (
    DROPOUT,
    LEARNING_RATE,
    NUM_THREADS,
    SHAPES,
    TOTAL_STEPS,
    WARMUP_STEPS,
    WEIGHT_DECAY,
    hugging_face_config,
    make_batches,
    to_hugging_face,
)
from benchmarks.pretraining.worker import obey


def main() -> int:
    shape_name, settings = sys.argv[1:]
    obey(lambda: make_step(shape_name, **json.loads(settings)))
    return 0


def make_step(
    shape_name: str,
    *,
    dtype: str = "float32",
    attention: str = "sdpa",
    adamw: str = "foreach",
    activation: str = "gelu",
    matmul: str = "highest",
    compiled: bool = False,
) -> tuple[str, Callable[[int], float]]:
    """The training step of a shape: forward, backward, clipping, AdamW.

    Args:
        dtype: `bfloat16` for autocast.
        attention: `sdpa` or `eager`.
        adamw: torch's `fused` or `foreach` implementation.
        activation: Hugging Face's `hidden_act`.
        matmul: `medium` lets float32 products be computed in bfloat16.
        compiled: whether torch.compile compiles forward and backward.
    """
    torch.set_num_threads(NUM_THREADS)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision(matmul)
    config = transformers.BertConfig(
        **hugging_face_config(SHAPES[shape_name], activation, DROPOUT),
        attn_implementation=attention,
    )
    model = transformers.BertForPreTraining(config).train()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        parameter_groups(model), lr=LEARNING_RATE, eps=1e-6, **{adamw: True}
    )
    schedule = transformers.get_linear_schedule_with_warmup(
        optimizer, WARMUP_STEPS, TOTAL_STEPS
    )
    batches = [
        {k: torch.from_numpy(array) for k, array in to_hugging_face(batch).items()}
        for batch in make_batches()
    ]
    forward = torch.compile(model) if compiled else model

    def step(number: int) -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            loss = forward(**batches[number % len(batches)]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return f"torch {torch.__version__}, transformers {transformers.__version__}", step


def parameter_groups(model: torch.nn.Module) -> list[dict[str, Any]]:
    """Weight decay leaves out biases and LayerNorm."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]


if __name__ == "__main__":
    sys.exit(main())

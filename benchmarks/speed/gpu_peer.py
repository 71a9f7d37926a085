"""PyTorch's side of gpu.py: Hugging Face's classifier, compiled, with flash attention.

    python -m benchmarks.speed.gpu_peer training '{}'

A step trains, or predicts, a batch; its loss is that of the update, or the first logit.
See `benchmarks.pretraining.worker`.
"""

import json
import sys
from collections.abc import Callable

import torch
import transformers

from benchmarks.pretraining.batches import hugging_face_config
from benchmarks.pretraining.peer_step import parameter_groups
from benchmarks.pretraining.worker import obey
from benchmarks.speed.classifiers import (
    CLIP_NORM,
    CPU_CASE,
    GPU_CASE,
    LEARNING_RATE,
    NUM_CLASSES,
    make_batches,
)
from benchmarks.speed.peer_step import to_torch


def main() -> int:
    work, settings = sys.argv[1:]
    obey(lambda: make_step(work, **json.loads(settings)))
    return 0


def make_step(work: str, device: str = "cuda") -> tuple[str, Callable[[int], float]]:
    """The step of a work: `training` or `prediction`."""
    case = CPU_CASE if device == "cpu" else GPU_CASE
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    config = transformers.BertConfig(
        **hugging_face_config(case.shape, "gelu_pytorch_tanh", dropout=0.0),
        num_labels=NUM_CLASSES,
        attn_implementation="sdpa",
    )
    model = transformers.BertForSequenceClassification(config).to(device)
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        parameter_groups(model), lr=LEARNING_RATE, eps=1e-6, fused=True
    )
    batches = []
    for batch in make_batches(case):
        tensors = to_torch(batch)
        # All rows are full: without a mask sdpa may take its flash kernel.
        del tensors["attention_mask"]
        batches.append({name: x.to(device) for name, x in tensors.items()})
    forward = torch.compile(model)

    def train(number: int) -> float:
        with torch.autocast(device, torch.bfloat16):
            loss = forward(**batches[number % len(batches)]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def predict(number: int) -> float:
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
            return forward(**batches[number % len(batches)]).logits[0, 0].item()

    is_training = work == "training"
    model.train(is_training)
    if not is_training:
        model.to(torch.bfloat16)
    name = torch.cuda.get_device_name() if device == "cuda" else device
    description = f"torch {torch.__version__} on {name}"
    step = train if is_training else predict
    return f"{description}, transformers {transformers.__version__}", step


if __name__ == "__main__":
    sys.exit(main())

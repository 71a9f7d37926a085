"""Loss and gradients of a Hugging Face BertForPreTraining, for parity.py.

Runs in an environment of its own (requirements-peers.txt):

    python -m benchmarks.pretraining.peer_parity INPUTS.npz OUTPUTS.npz

`INPUTS` has `config`, a JSON string, `weights/NAME` under Hugging Face's names, and
`batch/NAME` under the names of the model's arguments. `OUTPUTS` gets `loss`,
`masked_lm`, `next_sentence` and `gradients/NAME`.
"""

import json
import sys

import numpy as np
import torch
from transformers import BertConfig, BertForPreTraining

# The names under which the tied weights appear a second time.
TIED = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}


def main() -> int:
    inputs_file, outputs_file = sys.argv[1:]
    with np.load(inputs_file) as inputs:
        config = BertConfig(**json.loads(str(inputs["config"])))
        weights = read_tensors(inputs, "weights/")
        batch = read_tensors(inputs, "batch/")
    model = BertForPreTraining(config).train()  # all rates of dropout are 0
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if set(missing) - TIED or unexpected:
        raise RuntimeError(f"missing: {missing}, unexpected: {unexpected}")
    outputs = model(**batch)
    outputs.loss.backward()
    masked_lm = torch.nn.functional.cross_entropy(
        outputs.prediction_logits.flatten(0, 1), batch["labels"].flatten()
    )
    results = {
        "loss": outputs.loss.item(),
        "masked_lm": masked_lm.item(),
        "next_sentence": (outputs.loss - masked_lm).item(),
    }
    for name, parameter in model.named_parameters():  # each tied weight once
        assert parameter.grad is not None, name
        results[f"gradients/{name}"] = parameter.grad.numpy()
    np.savez(outputs_file, **results)
    return 0


def read_tensors(arrays: np.lib.npyio.NpzFile, prefix: str) -> dict[str, torch.Tensor]:
    """The arrays whose names begin with `prefix`, without it."""
    return {
        name.removeprefix(prefix): torch.from_numpy(arrays[name])
        for name in arrays.files
        if name.startswith(prefix)
    }


if __name__ == "__main__":
    sys.exit(main())

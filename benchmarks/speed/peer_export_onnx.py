"""A Hugging Face classifier as ONNX files, for serve_one.py.

Runs in an environment of its own (requirements-peers.txt):

    python -m benchmarks.speed.peer_export_onnx MODEL FOLDER

Writes `plain.onnx` as torch exports it; `fused.onnx`, in which ONNX Runtime's own
optimizer for transformers has joined embeddings, attention, LayerNorm and GELU (it
knows them in what torch's older, tracing exporter writes, and hardly in the newer's);
and `int8.onnx`, the same with products that are quantized dynamically. Prints a JSON
line: what was fused.
"""

import json
import sys
from pathlib import Path

import onnx
import torch
import transformers
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers import optimizer

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]
OUTPUTS = ["logits"]
# From 20 on GELU is one operator, whose tanh form ONNX Runtime's optimizer takes for
# the exact one.
OPSET = 18


def main() -> int:
    model_folder, folder = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    plain, traced, fused, int8 = (
        Path(folder, f"{name}.onnx") for name in ("plain", "traced", "fused", "int8")
    )
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        model_folder, attn_implementation="eager"
    )
    export(model.eval(), plain)
    trace(model, traced)
    optimized = optimizer.optimize_model(
        str(traced),
        model_type="bert",
        num_heads=model.config.num_attention_heads,
        hidden_size=model.config.hidden_size,
        use_gpu=False,
    )
    optimized.save_model_to_file(str(fused))
    traced.unlink()
    quantize_dynamic(
        fused,
        int8,
        weight_type=QuantType.QInt8,
        # What ONNX's own inference of types cannot tell of the joined operators.
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    found = optimized.get_fused_operator_statistics()
    print(json.dumps({name: count for name, count in found.items() if count}))
    return 0


def example() -> torch.Tensor:
    """What is traced: not of one row or one token, which would be constants."""
    return torch.ones((2, 16), dtype=torch.long)


def export(model: torch.nn.Module, path: Path) -> None:
    """Writes the model for any number of texts of any length."""
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    torch.onnx.export(
        model,
        # A tensor each: one for all would be taken for one input.
        kwargs={name: example() for name in INPUTS},
        f=path,
        input_names=INPUTS,
        output_names=OUTPUTS,
        dynamic_shapes=dict.fromkeys(INPUTS, axes),
        external_data=False,
        opset_version=OPSET,
        verbose=False,
    )


def trace(model: torch.nn.Module, path: Path) -> None:
    """Writes the model likewise, by torch's older exporter."""
    torch.onnx.export(
        model,
        args=tuple(example() for _ in INPUTS),
        f=path,
        input_names=INPUTS,
        output_names=OUTPUTS,
        dynamic_axes={name: {0: "batch", 1: "tokens"} for name in INPUTS},
        dynamo=False,
        opset_version=OPSET,
    )


if __name__ == "__main__":
    sys.exit(main())

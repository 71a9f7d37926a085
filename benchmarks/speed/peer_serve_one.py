"""The peers' sides of serve_one.py: ONNX Runtime and PyTorch behind `tokenizers`.

Runs in an environment of its own (requirements-peers.txt):

    python -m benchmarks.speed.peer_serve_one MODEL ONNX_FOLDER texts.json \\
        '{"engine": "plain"}'

A step answers the next text and gives the probability of the first class as its loss;
see `benchmarks.pretraining.worker`.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tokenizers

from benchmarks.pretraining.batches import NUM_THREADS
from benchmarks.pretraining.worker import obey

# Token ids, mask and segment ids of a text, `[1, T]` int64, to logits `[1, C]`.
Model = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def main() -> int:
    model_folder, onnx_folder, texts, settings = sys.argv[1:]
    obey(
        lambda: make_step(
            Path(model_folder),
            Path(onnx_folder),
            json.loads(Path(texts).read_text("utf-8")),
            **json.loads(settings),
        )
    )
    return 0


def make_step(
    model_folder: Path, onnx_folder: Path, texts: list[str], *, engine: str
) -> tuple[str, Callable[[int], float]]:
    """What answers the text of a number.

    Args:
        engine: `torch`, or the name of an ONNX file.
    """
    settings = json.loads((model_folder / "tokenizer_config.json").read_text())
    tokenizer = tokenizers.BertWordPieceTokenizer(
        str(model_folder / "vocab.txt"),
        lowercase=settings["do_lower_case"],
        strip_accents=settings["strip_accents"],
    )
    tokenizer.enable_truncation(settings["model_max_length"])
    if engine == "torch":
        description, model = torch_model(model_folder)
    else:
        description, model = onnx_model(onnx_folder / f"{engine}.onnx")

    def step(number: int) -> float:
        encoding = tokenizer.encode(texts[number % len(texts)])
        columns = encoding.ids, encoding.attention_mask, encoding.type_ids
        ids, mask, segments = (np.array([column], np.int64) for column in columns)
        logits = model(ids, mask, segments)[0].astype(np.float64)
        exponents = np.exp(logits - logits.max())
        return float(exponents[0] / exponents.sum())

    return f"{description}, tokenizers {tokenizers.__version__}", step


def torch_model(folder: Path) -> tuple[str, Model]:
    """The model in PyTorch, eager."""
    import torch
    import transformers

    torch.set_num_threads(NUM_THREADS)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    model.eval()

    def run(ids: np.ndarray, mask: np.ndarray, segments: np.ndarray) -> np.ndarray:
        ids, mask, segments = map(torch.from_numpy, (ids, mask, segments))
        with torch.inference_mode():
            outputs = model(input_ids=ids, attention_mask=mask, token_type_ids=segments)
        return outputs.logits.numpy()

    return f"torch {torch.__version__}", run


def onnx_model(path: Path) -> tuple[str, Model]:
    """The model in ONNX Runtime, all of its own optimizations on."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = NUM_THREADS
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )

    def run(ids: np.ndarray, mask: np.ndarray, segments: np.ndarray) -> np.ndarray:
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
        (logits,) = session.run(["logits"], feeds)
        return logits

    return f"onnxruntime {onnxruntime.__version__}", run


if __name__ == "__main__":
    sys.exit(main())

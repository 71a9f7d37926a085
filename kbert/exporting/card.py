"""What an export says of itself: `assets.extra/kbert.json`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kbert.settings import ExportSettings
from kbert.tasks.served import LENGTH_MULTIPLE, Signature

FILE_NAME = "kbert.json"

# The ops of the tokenizer have been in TensorFlow Serving since then.
OLDEST_SERVING = "2.12"


def build_card(
    *,
    name: str,
    task: Mapping[str, Any],
    run: Mapping[str, Any],
    signatures: Mapping[str, Signature],
    settings: ExportSettings,
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """The card of an export, ready for JSON.

    Args:
        name: the model's name.
        task: what `task.json` holds.
        run: `preset`, `metrics`, `data` and `trained_with` of the run.
        signatures: what the model can be asked.
        settings: how it was exported.
        versions: of Python and the packages that wrote it.
    """
    serving = ".".join(versions["tensorflow"].split(".")[:2])
    return {
        "kbert_export": 1,
        "name": name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": dict(versions),
        "tensorflow_serving": {"minimum": OLDEST_SERVING, "recommended": serving},
        "task": dict(task),
        "labels": task.get("labels"),
        "precision": settings.precision,
        **run,
        "limits": {
            "max_length": task["max_length"],
            "max_batch_size": settings.max_batch_size,
            "length_multiple": LENGTH_MULTIPLE,
            "pad_variable_length_inputs": False,
        },
        "signatures": {
            key: {spec.name: spec.dtype.name for spec in signature.inputs}
            for key, signature in signatures.items()
        },
    }

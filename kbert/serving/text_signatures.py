"""A signature that takes texts, as the metadata of a model describe it."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from kbert.errors import ServingError

CLASSIFY = "classify"

_TEXTS = ({"text": "DT_STRING"}, {"text": "DT_STRING", "text_pair": "DT_STRING"})
_ANSWERS = ("label", "score", "probabilities")


@dataclass(frozen=True)
class TextSignature:
    """What a client must know of a signature.

    Attributes:
        name: the signature's name.
        is_paired: whether it takes pairs of texts.
        is_float32: whether its probabilities are of single precision.
        names_classes: whether the model has a `classify` signature beside it, which
            tells the classes in order.
    """

    name: str
    is_paired: bool
    is_float32: bool
    names_classes: bool


def read_text_signature(
    metadata: Mapping[str, Any], name: str, where: str
) -> TextSignature:
    """Finds a signature in a model's metadata, and checks that it takes texts.

    Args:
        metadata: what the server answers, in the form of REST.
        name: the signature's name.
        where: the URL, for messages.

    Raises:
        ServingError: there is no such signature, or it takes or gives other things
            than an export of a text classifier does.
    """
    try:
        signatures = metadata["metadata"]["signature_def"]["signature_def"]
        inputs, outputs = ({}, {})
        if name in signatures:
            inputs = _dtypes(signatures[name]["inputs"])
            outputs = _dtypes(signatures[name]["outputs"])
        named = {key for key in signatures if not key.startswith("__")}
        classify = _dtypes(signatures.get(CLASSIFY, {}).get("outputs", {}))
    except (KeyError, TypeError, AttributeError):
        raise ServingError(
            f"{where}: the metadata are not those of a model in TF Serving. "
            f"Received: {metadata!r:.200}"
        ) from None
    if name not in named:
        raise ServingError(_no_such_signature(where, name, sorted(named)))
    if inputs not in _TEXTS:
        raise ServingError(
            f'{where}: the signature "{name}" takes {_listed(inputs)}. It must take '
            "text (DT_STRING), and for pairs text_pair, as an export of kbert does. "
            f"Signatures: {', '.join(sorted(named))}."
        )
    if not outputs.keys() >= set(_ANSWERS):
        raise ServingError(
            f'{where}: the signature "{name}" gives {_listed(outputs)}. It must give '
            f"{', '.join(_ANSWERS)}, as an export of kbert does."
        )
    return TextSignature(
        name=name,
        is_paired="text_pair" in inputs,
        is_float32=outputs["probabilities"] == "DT_FLOAT",
        names_classes="classes" in classify,
    )


def _dtypes(tensors: Mapping[str, Any]) -> dict[str, str]:
    return {key: tensor["dtype"] for key, tensor in tensors.items()}


def _listed(dtypes: Mapping[str, str]) -> str:
    listed = ", ".join(f"{key} ({dtype})" for key, dtype in sorted(dtypes.items()))
    return listed or "nothing"


def _no_such_signature(where: str, name: str, named: list[str]) -> str:
    near = get_close_matches(name, named, n=1)
    return (
        f'{where}: there is no signature "{name}". '
        f"Signatures: {', '.join(named) or 'none'}."
        + (f' Did you mean "{near[0]}"?' if near else "")
    )

"""From texts to what is sent, and from what comes back to answers.

An answer is what `kbert.Run.predict` gives: text, label, score, probabilities.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

from kbert.errors import ServingError
from kbert.serving.text_signatures import TextSignature
from kbert.serving.transport import Outputs

Text = str | tuple[str, str]


def check_text(text: object, number: int) -> None:
    """Checks that it is a text, or a pair of texts.

    Raises:
        TypeError: it is neither.
    """
    parts = text if isinstance(text, tuple | list) and len(text) == 2 else [text]
    if not all(isinstance(part, str) for part in parts):
        raise TypeError(
            "Each text must be a string, or a pair of strings for a model of pairs. "
            f"Received: texts[{number}] = {text!r:.80} ({type(text).__name__})."
        )


def texts_by_input(
    texts: Sequence[Text], signature: TextSignature, where: str
) -> dict[str, list[str]]:
    """The texts by the input that takes them: `text`, and `text_pair` for pairs.

    Raises:
        ServingError: pairs for a model of single texts, or the other way round.
    """
    for text in texts:
        if isinstance(text, str) == signature.is_paired:
            wants = "pairs of texts" if signature.is_paired else "single texts"
            raise ServingError(
                f"{where} takes {wants}. Received: {text!r:.80}. A pair is "
                "(text, text_pair), or two columns of --input FILE.csv."
            )
    if not signature.is_paired:
        return {"text": [text for text in texts if isinstance(text, str)]}
    firsts, seconds = zip(*texts, strict=True)
    return {"text": list(firsts), "text_pair": list(seconds)}


def check_outputs(outputs: Mapping[str, Any], num_texts: int, where: str) -> Outputs:
    """Checks that there is a label, a score and a list of numbers for each text.

    Raises:
        ServingError: there is not.
    """
    for name in ("label", "score", "probabilities"):
        values = outputs.get(name) if isinstance(outputs, dict) else None
        if not isinstance(values, list) or len(values) != num_texts:
            raise ServingError(
                f"{where} must answer {num_texts} texts with as many values of "
                f'"{name}". Received: {values!r:.200}'
            )
    if not all(isinstance(row, list) and row for row in outputs["probabilities"]):
        raise ServingError(f"{where} answers with probabilities that are no lists.")
    return outputs


def fit_together(outputs: Outputs, class_names: Sequence[str]) -> bool:
    """Whether the classes can be those of the answers.

    They cannot where the server has changed to a version with others meanwhile.
    """
    numbers = {name: number for number, name in enumerate(class_names)}
    return all(
        len(row) == len(numbers)
        and label in numbers
        and row[numbers[label]] == max(row)
        for label, row in zip(outputs["label"], outputs["probabilities"], strict=True)
    )


def build_answers(
    texts: Mapping[str, Sequence[str]],
    outputs: Outputs,
    class_names: Sequence[str] | None,
    *,
    is_float32: bool,
) -> list[dict[str, Any]]:
    """An answer for each text.

    Args:
        texts: the texts by input.
        outputs: what came back, checked.
        class_names: the keys of `probabilities`; None for a plain list.
        is_float32: whether the numbers are of single precision. JSON rounds those
            to 9 digits, from which they are restored here.
    """
    answers = []
    for *given, label, score, row in zip(
        *texts.values(),
        outputs["label"],
        outputs["score"],
        outputs["probabilities"],
        strict=True,
    ):
        kind = "f" if is_float32 else "d"
        score, *row = array(kind, [score, *row])
        answer = {
            "label": label,
            "score": score,
            "probabilities": row
            if class_names is None
            else dict(zip(class_names, row, strict=True)),
        }
        answers.append(dict(zip(texts, given, strict=True)) | answer)
    return answers

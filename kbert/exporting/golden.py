"""Texts with the answers that an exported model has to give: what was trained."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kbert.errors import ExportError
from kbert.files import write_json

FILE_NAME = "golden.json"

# The largest difference to what the run answers in float32.
TOLERANCES = {"float32": 1e-5, "bfloat16": 5e-2}

_LONG = "The first half is slow, and the second half makes up for all of it. "

# Lengths from nothing to far beyond any maximum, several scripts, and what breaks
# tokenizers: no space, combining marks, joined emoji, a NUL, a special token spelled.
TEXTS = (
    "",
    " ",
    "\n\t  \r\n",
    "Good.",
    "A wonderful film, warm and wise.",
    "Never again! The worst two hours of my year :-(",
    _LONG * 2,
    _LONG * 8,
    _LONG * 147,  # 10,000 characters
    "x" * 200,
    "naïve café, Ångström, e\u0301te\u0301",
    "这部电影非常好看，我很喜欢。",  # noqa: RUF001
    "とても面白い映画でした。カタカナも",
    "아주 재미있는 영화였습니다",
    "ΟΔΥΣΣΕΥΣ και ο Κύκλωπας",  # noqa: RUF001
    "Отличный фильм, советую всем",
    "فيلم رائع جدا",
    "👍🏽 👩‍👩‍👧‍👦 ❤️ 10/10",
    "before\x00after",
    "[CLS] a [MASK] film [SEP]",
    "<b>bold</b> &amp; \\ \"quoted\" 'single' `tick`",
    "3.14159 1,000,000 50% $9.99 #1 @home a/b c_d e-f",
    "\u200bzero\u200bwidth\ufeff and \u00a0no-break\u00a0space",
    "UPPER lower MiXeD ẞ ß ﬁ İ ı",  # noqa: RUF001
)


@dataclass(frozen=True)
class Golden:
    """What to ask an export, and what it has to answer.

    Attributes:
        precision: what the export computes in.
        tolerance: the largest difference that a number may have.
        inputs: the texts by input name, each `[examples]`.
        outputs: the answers by output name, each `[examples, ...]`; texts as bytes.
    """

    precision: str
    tolerance: float
    inputs: Mapping[str, list[str]]
    outputs: Mapping[str, np.ndarray]

    def write(self, folder: Path) -> None:
        """Writes `golden.json`."""
        outputs = {
            name: [item.decode() for item in values]
            if values.dtype == object
            else values.tolist()
            for name, values in self.outputs.items()
        }
        write_json(
            folder / FILE_NAME,
            {
                "precision": self.precision,
                "tolerance": self.tolerance,
                "inputs": dict(self.inputs),
                "outputs": outputs,
            },
        )

    @classmethod
    def read(cls, file: Path) -> "Golden":
        """Reads `golden.json`.

        Raises:
            ExportError: the file is damaged.
        """
        try:
            values = json.loads(file.read_text("utf-8"))
            return cls(
                precision=str(values["precision"]),
                tolerance=float(values["tolerance"]),
                inputs={
                    str(name): [str(text) for text in texts]
                    for name, texts in values["inputs"].items()
                },
                outputs={
                    str(name): _array(items)
                    for name, items in values["outputs"].items()
                },
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ExportError(
                f"{file} is damaged: {error}. Export the run again."
            ) from None

    def feeds(self) -> dict[str, np.ndarray]:
        """The inputs as a SavedModel takes them: bytes."""
        return {
            name: np.array([text.encode() for text in texts], object)
            for name, texts in self.inputs.items()
        }

    def difference(self, outputs: Mapping[str, np.ndarray]) -> float:
        """The largest difference of any number to the expected one.

        Raises:
            ExportError: an output is missing or has another shape, a number differs
                by more than the tolerance, or a text is another one.
        """
        largest = 0.0
        for name, expected in self.outputs.items():
            if name not in outputs:
                raise ExportError(f"there is no output {name!r}")
            received = np.asarray(outputs[name])
            if received.shape != expected.shape:
                raise ExportError(
                    f"{name} has shape {received.shape} in place of {expected.shape}"
                )
            if expected.dtype != object:
                # A NaN is never within the tolerance.
                differences = np.abs(received.astype(np.float64) - expected)
                largest = max(largest, float(differences.max(initial=0.0)))
                worst = ~(differences <= self.tolerance)
            else:
                worst = (received != expected) & ~self._undecided()
            if worst.any():
                row = int(np.argwhere(worst)[0][0])
                texts = {key: f"{rows[row]:.40}" for key, rows in self.inputs.items()}
                raise ExportError(
                    f"{name} of {texts} is {received[row]} in place of {expected[row]}"
                )
        return largest

    def _undecided(self) -> np.ndarray:
        """Where the two best scores lie within the tolerance: either label is right."""
        rows = len(next(iter(self.inputs.values())))
        undecided = np.zeros(rows, bool)
        for values in self.outputs.values():
            if values.dtype != object and values.ndim == 2 and values.shape[1] > 1:
                second, first = np.sort(values, axis=1)[:, -2:].T
                undecided |= first - second <= 2 * self.tolerance
        return undecided


def golden_texts(*, is_paired: bool) -> list[str] | list[tuple[str, str]]:
    """The fixed texts; each with another one where an example is a pair."""
    if not is_paired:
        return list(TEXTS)
    return list(zip(TEXTS, (*TEXTS[5:], *TEXTS[:5]), strict=True))


def _array(items: list[Any]) -> np.ndarray:
    if items and isinstance(items[0], str):
        return np.array([item.encode() for item in items], object)
    return np.array(items, np.float64)

"""Texts with the answers that an exported model has to give: what was trained."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kbert.bounded import read_json
from kbert.errors import ExportError
from kbert.files import write_json

FILE_NAME = "golden.json"

Ask = Callable[[str, Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

# The largest difference to what the run answers in float32.
TOLERANCES = {"float32": 1e-5, "bfloat16": 5e-2}
_LOGITS = 10

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
class GoldenCall:
    """What to ask a signature, and what it has to answer.

    Attributes:
        inputs: by name, each `[examples, ...]`; strings are bytes in arrays of objects.
        outputs: likewise.
    """

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]

    def difference(
        self, outputs: Mapping[str, np.ndarray], *, tolerance: float
    ) -> float:
        """The largest difference of any probability to the expected one.

        Args:
            outputs: what was answered.
            tolerance: how much a probability may differ; logits may ten times as much,
                whose rounding errors grow with their size.

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
                is_share = bool(((expected >= 0) & (expected <= 1)).all())
                worst = ~(differences <= tolerance * (1 if is_share else _LOGITS))
                if is_share:
                    largest = max(largest, float(differences.max(initial=0.0)))
            else:
                undecided = self._undecided(tolerance)
                undecided = undecided.reshape(-1, *[1] * (expected.ndim - 1))
                worst = (received != expected) & ~undecided
            if worst.any():
                row = int(np.argwhere(worst)[0][0])
                asked = {key: _shown(rows[row]) for key, rows in self.inputs.items()}
                raise ExportError(
                    f"{name} of {asked} is {received[row]} in place of {expected[row]}"
                )
        return largest

    def _undecided(self, tolerance: float) -> np.ndarray:
        """Where the two best scores lie within the tolerance: either label is right."""
        undecided = np.zeros(len(next(iter(self.inputs.values()))), bool)
        # Where each row names all labels in their order, none of them is the best.
        if any(v.dtype == object and v.ndim > 1 for v in self.outputs.values()):
            return undecided
        for values in self.outputs.values():
            if values.dtype != object and values.ndim == 2 and values.shape[1] > 1:
                second, first = np.sort(values, axis=1)[:, -2:].T
                undecided |= first - second <= 2 * tolerance
        return undecided


@dataclass(frozen=True)
class Golden:
    """Calls with their answers, by signature.

    Attributes:
        precision: what the export computes in.
        tolerance: the largest difference that a number may have.
        calls: by the name of the signature.
    """

    precision: str
    tolerance: float
    calls: Mapping[str, GoldenCall]

    def difference(self, ask: Ask) -> float:
        """Asks all signatures; returns the largest difference to what is expected.

        Args:
            ask: asks a signature: name and inputs -> outputs.

        Raises:
            ExportError: one has no answer, or another one.
        """
        largest = 0.0
        for name, call in self.calls.items():
            outputs = ask(name, call.inputs)
            try:
                found = call.difference(outputs, tolerance=self.tolerance)
            except ExportError as error:
                raise ExportError(f"signature {name}: {error}") from None
            largest = max(largest, found)
        return largest

    def write(self, folder: Path) -> None:
        """Writes `golden.json`."""
        signatures = {
            name: {
                "inputs": {key: _to_json(rows) for key, rows in call.inputs.items()},
                "outputs": {key: _to_json(rows) for key, rows in call.outputs.items()},
            }
            for name, call in self.calls.items()
        }
        write_json(
            folder / FILE_NAME,
            {
                "precision": self.precision,
                "tolerance": self.tolerance,
                "signatures": signatures,
            },
        )

    @classmethod
    def read(cls, file: Path) -> "Golden":
        """Reads `golden.json`.

        Raises:
            ExportError: the file is damaged.
        """
        try:
            values = read_json(file, ExportError)
            calls = {
                str(name): GoldenCall(
                    {key: _from_json(rows) for key, rows in call["inputs"].items()},
                    {key: _from_json(rows) for key, rows in call["outputs"].items()},
                )
                for name, call in values["signatures"].items()
            }
            return cls(str(values["precision"]), float(values["tolerance"]), calls)
        except ExportError as error:
            raise ExportError(f"{file} is damaged: {error}") from None
        except (
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as error:
            raise ExportError(
                f"{file} is damaged: {error}. Export the run again."
            ) from None


def golden_texts(*, is_paired: bool) -> list[str] | list[tuple[str, str]]:
    """The fixed texts; each with another one where an example is a pair."""
    if not is_paired:
        return list(TEXTS)
    return list(zip(TEXTS, (*TEXTS[5:], *TEXTS[:5]), strict=True))


def _to_json(rows: np.ndarray) -> dict[str, Any]:
    """An array with its type; bytes that are no UTF-8 in base64."""
    if rows.dtype != object:
        return {rows.dtype.name: rows.tolist()}
    try:
        flat = [item.decode() for item in rows.ravel()]
        kind = "string"
    except UnicodeDecodeError:
        flat = [base64.b64encode(item).decode() for item in rows.ravel()]
        kind = "base64"
    return {kind: np.array(flat, object).reshape(rows.shape).tolist()}


def _from_json(value: dict[str, Any]) -> np.ndarray:
    ((kind, items),) = value.items()
    if kind in ("string", "base64"):
        rows = np.array(items, object)
        decode = str.encode if kind == "string" else base64.b64decode
        flat = np.empty(rows.size, object)
        flat[:] = [decode(item) for item in rows.ravel()]
        return flat.reshape(rows.shape)
    if kind not in ("int32", "float32", "float64"):
        raise ValueError(f"no type {kind!r} is known")
    return np.array(items, kind)


def _shown(row: Any) -> str:
    text = row.decode("utf-8", "replace") if isinstance(row, bytes) else str(row)
    return f"{text:.40}"

"""What a point of the checklist is, and how one is looked at."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import tensorflow as tf
from google.protobuf.message import DecodeError

from kbert.display import printable
from kbert.errors import UserError

if TYPE_CHECKING:
    from kbert.exporting.checklist.opened import Opened

Status = Literal["pass", "fail", "skip"]
# Looks at an export: returns a word on what it found, or raises Failed or Skipped.
Check = Callable[["Opened"], str | None]

_MOST_CHARACTERS = 600

# What reading a damaged file, or one that was made to do harm, can end in.
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    DecodeError,
    LookupError,
    MemoryError,
    OSError,
    RecursionError,
    StopIteration,
    TypeError,
    ValueError,
    struct.error,
    tf.errors.OpError,
)


class Failed(Exception):
    """The point does not hold; the message says what was found and how to mend it."""


class Skipped(Exception):
    """The point cannot be looked at, or asks nothing of this export; it says why."""


@dataclass(frozen=True)
class Point:
    """What came out of one point.

    Attributes:
        number: its number in the checklist.
        title: what holds where it passes.
        status: whether it does; `skip` where that cannot be seen or does not matter.
        detail: what was found, or why it was skipped; may be empty.
    """

    number: int
    title: str
    status: Status
    detail: str


@dataclass(frozen=True)
class _Entry:
    title: str
    check: Check


REGISTRY: dict[int, _Entry] = {}


def point(number: int, title: str) -> Callable[[Check], Check]:
    """Enters a function in the checklist.

    Args:
        number: its place.
        title: what holds where it passes.
    """

    def enter(check: Check) -> Check:
        assert number not in REGISTRY, f"point {number} is there twice"
        REGISTRY[number] = _Entry(title, check)
        return check

    return enter


def look_at(number: int, opened: "Opened") -> Point:
    """Looks at one point of an export; whatever the export is, nothing is raised."""
    entry = REGISTRY[number]
    status: Status = "pass"
    try:
        detail = entry.check(opened) or ""
    except Skipped as reason:
        status, detail = "skip", str(reason)
    except (Failed, UserError) as reason:
        status, detail = "fail", str(reason)
    except _DAMAGE as error:
        status, detail = "fail", f"{type(error).__name__}: {error}"
    return Point(number, entry.title, status, _one_line(detail))


def format_points(points: Sequence[Point]) -> str:
    """A line for each point, and one that counts them."""
    marks = {"pass": "ok", "fail": "FAIL", "skip": "skip"}
    lines = []
    for item in points:
        detail = f": {item.detail}" if item.detail else ""
        lines.append(f"{marks[item.status]:4}  {item.number:2}  {item.title}{detail}")
    counts = {status: sum(p.status == status for p in points) for status in marks}
    summary = f"{counts['pass']} of {len(points)} points hold"
    if counts["fail"]:
        summary += f", {counts['fail']} do not"
    if counts["skip"]:
        summary += f", {counts['skip']} could not be looked at or do not apply"
    return "\n".join([*lines, f"{summary}."])


def _one_line(text: str) -> str:
    """Text from an export may hold anything, also what a terminal obeys."""
    text = printable(" ".join(text.split()))
    if len(text) > _MOST_CHARACTERS:
        return f"{text[:_MOST_CHARACTERS]} ..."
    return text

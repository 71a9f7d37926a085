"""A point of the check list: how it is looked at, and how it came out."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import tensorflow as tf
from google.protobuf.message import DecodeError

from kbert.display import printable
from kbert.errors import UserError

if TYPE_CHECKING:
    from kbert.exporting.checks.opened import Export

logger = logging.getLogger(__name__)

# What the libraries that read an export raise where it is damaged, or made to harm.
_UNREADABLE = (
    ArithmeticError,
    AttributeError,
    DecodeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    tf.errors.OpError,
)
_MOST_CHARACTERS = 800
_WORDS = {"pass": "ok", "fail": "FAIL", "skip": "skip"}


class FailError(Exception):
    """The export does not have the property; says what was found, and the remedy."""


class SkipError(Exception):
    """The property cannot be looked at, or does not apply; says why."""


@dataclass(frozen=True)
class Point:
    """How a point of the check list came out.

    Attributes:
        number: its number in the list, from 1 to 40.
        title: the property that an export has to have.
        status: `skip` where it could not be looked at, or does not apply.
        detail: what was found; where it fails, how to mend it.
    """

    number: int
    title: str
    status: Literal["pass", "fail", "skip"]
    detail: str


@dataclass(frozen=True)
class Check:
    """How a point is looked at.

    Attributes:
        number: as in `Point`.
        title: as in `Point`.
        look: says what it found where all is well, else raises FailError or SkipError.
    """

    number: int
    title: str
    look: "Callable[[Export], str]"


def judge(check: Check, export: "Export") -> Point:
    """Looks at one point; whatever the export is like, there is an answer."""

    def point(status: Literal["pass", "fail", "skip"], detail: object) -> Point:
        # The text may be an export's own, with whatever it holds.
        text = printable(" ".join(str(detail).split()))
        return Point(check.number, check.title, status, f"{text:.{_MOST_CHARACTERS}}")

    try:
        return point("pass", check.look(export))
    except SkipError as reason:
        return point("skip", reason)
    except (FailError, UserError) as reason:
        return point("fail", reason)
    except _UNREADABLE as error:
        logger.debug("point %d", check.number, exc_info=True)
        return point("fail", f"it cannot be looked at: {type(error).__name__}: {error}")


def format_points(points: Sequence[Point]) -> str:
    """A line a point, and a line that counts them."""
    counts = Counter(point.status for point in points)
    lines = [
        f"{_WORDS[p.status]:4}  {p.number:2}  {p.title}{_after(p)}" for p in points
    ]
    summary = f"{counts['pass']} of {len(points)} points hold"
    if counts["skip"]:
        summary += f", {counts['skip']} do not apply or could not be looked at"
    if counts["fail"]:
        summary += f", {counts['fail']} FAIL"
    return "\n".join([*lines, summary])


def _after(point: Point) -> str:
    return f": {point.detail}" if point.detail else ""


def some(items: Sequence[object], limit: int = 5) -> str:
    """The first few items, for a detail."""
    shown = ", ".join(f"{item!s:.120}" for item in items[:limit])
    rest = len(items) - limit
    return f"{shown} and {rest} more" if rest > 0 else shown

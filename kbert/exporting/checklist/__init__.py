"""The forty points of an export that works on TensorFlow Serving.

They are looked at with TensorFlow and tensorflow-text alone, in any folder: also in one
that another tool wrote, that is damaged, or that was made to do harm. The graph is run
in fresh processes only.
"""

import os

from kbert.exporting.checklist import (  # noqa: F401: they enter their points
    behaviour,
    files,
    graph,
    loading,
    serving_files,
    signatures,
    tokenizer,
)
from kbert.exporting.checklist.backends import FreshProcesses
from kbert.exporting.checklist.opened import Opened, RoundTrip
from kbert.exporting.checklist.points import REGISTRY, Point, format_points, look_at

__all__ = ["Point", "format_points", "run_checks"]


def run_checks(
    folder: str | os.PathLike[str], *, round_trip: RoundTrip | None = None
) -> list[Point]:
    """Looks at every point.

    Args:
        folder: a version's folder, such as `saved_models/reviews/1`. It is only read.
        round_trip: asks a server that serves the folder over HTTP, and returns what is
            wrong with its answers or None. Without it that point is skipped.

    Returns:
        The points in their order. Whatever the folder is, nothing is raised.
    """
    with Opened(folder, FreshProcesses(), round_trip) as opened:
        return [look_at(number, opened) for number in sorted(REGISTRY)]

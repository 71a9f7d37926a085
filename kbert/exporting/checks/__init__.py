"""The check list: 40 points that an export has which a stock TensorFlow Serving serves.

Every point is a function of an `Export` that says what it found, or raises FailError or
SkipError; `run_checks` looks at all of them. Points have the numbers of the list that
they were written to, in four groups: the files (1, 2, 13, 31, 34 to 36), the graph (3
to 12, 37 to 39), the signatures (19 to 25) and what the loaded export answers (14 to
18, 22, 23, 26 to 33, 40).
"""

from kbert.exporting.checks.points import Point, format_points
from kbert.exporting.checks.runner import run_checks

__all__ = ["Point", "format_points", "run_checks"]

"""Packages that are not there for a while."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Within it, importing one of these packages fails as if it were not installed.

    For packages that another one imports where it finds them and does without
    otherwise; it stays without them. What is imported already stays, and every thread
    of the process is concerned.

    Args:
        names: of top-level packages.
    """
    absent = [name for name in names if name not in sys.modules]
    # None stands for "not found" (Python's language reference, 5.3.1).
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)

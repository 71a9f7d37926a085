"""Running the check list over a folder."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kbert.errors import ExportError
from kbert.exporting.checks import (
    behaviour,
    graph,
    layout,
    loading,
    provenance,
    reachable,
    server_files,
    signatures,
    tokenizer,
    warmup_file,
)
from kbert.exporting.checks.opened import Export
from kbert.exporting.checks.points import Check, Point, judge

_MODULES = (
    layout,
    graph,
    tokenizer,
    loading,
    signatures,
    behaviour,
    warmup_file,
    server_files,
    provenance,
    reachable,
)
CHECKS: tuple[Check, ...] = tuple(
    sorted(
        (check for module in _MODULES for check in module.CHECKS),
        key=lambda check: check.number,
    )
)


def run_checks(
    folder: Path, *, round_trip: Callable[[Path], str | None] | None = None
) -> list[Point]:
    """Looks at all 40 points of an export, whoever wrote it and whatever it holds.

    It is loaded in processes of its own, of which one that crashes or hangs is a point
    that fails.

    Args:
        folder: a version's folder, the one with `saved_model.pb`.
        round_trip: asks the export through a server's JSON (point 30) and returns
            what went wrong, None where nothing did. None: the point is skipped.

    Returns:
        A point for each number from 1 to 40, in their order.

    Raises:
        ExportError: there is no such folder.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise ExportError(
            f"There is no folder {folder} to check. Give the folder of a version, such "
            "as saved_models/reviews/1."
        )
    with contextlib.ExitStack() as stack:
        # Both load while the points before 14 read the files.
        pool = stack.enter_context(ThreadPoolExecutor(2))
        loaded = pool.submit(stack.enter_context, loading.opened(folder))
        native = pool.submit(loading.load_natively, folder)
        export = Export(folder, loaded.result, native.result, round_trip)
        return [judge(check, export) for check in CHECKS]

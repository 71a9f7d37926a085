"""Loading: points 14 to 18, and the processes that they and all later points ask."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kbert.errors import ExportError
from kbert.exporting import probe
from kbert.exporting.checks import native_load
from kbert.exporting.checks.opened import Export, Loading
from kbert.exporting.checks.points import Check, FailError, SkipError, some
from kbert.exporting.checks.requests import (
    answering,
    ask_texts,
    expect_same,
    first_answer_error,
)
from kbert.exporting.fresh import FreshServable

_MOST_SECONDS = 120.0  # for a request, and for loading
# Errors that TensorFlow logs about the processor or a missing GPU, whatever is loaded.
_ABOUT_THE_MACHINE = re.compile(r"oneDNN|cuda|cuInit|cuDNN|cuBLAS|GPU|TensorRT", re.I)
_NO_SUCH_OP = "not registered"
_TEXTS = (b"one text", b"another, somewhat longer text", b"")


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Loading]:
    """Loads an export with the portable ops, else with all of tensorflow-text's."""
    with contextlib.ExitStack() as stack:
        yield _load(folder, stack)


def load_natively(folder: Path) -> str:
    """Loads an export by `native_load`; returns what went wrong."""
    libraries = map(str, probe.op_libraries("portable"))
    try:
        done = subprocess.run(
            [sys.executable, "-P", native_load.__file__, str(folder), *libraries],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_MOST_SECONDS,
            check=False,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        )
    except subprocess.TimeoutExpired:
        return f"it has not loaded after {_MOST_SECONDS:g} s"
    if not done.stdout.endswith(b"\n"):
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        return f"the process ended with {done.returncode}: {some(last)}"
    answer = json.loads(done.stdout)
    if "missing" in answer:
        raise SkipError(answer["missing"])
    return answer["error"]


def can_be_moved(export: Export) -> str:
    """Point 14. The original is not deleted: that the graph does not name its own
    folder, and that a copy with its links as they are answers alike, stands for it."""
    if os.fsencode(export.folder) in export.graph_file:
        raise FailError(
            f"saved_model.pb names {export.folder}, where it lies itself. Keep what is "
            "read from files in constants or assets."
        )
    session = answering(export)
    expected = ask_texts(export, _TEXTS)
    with tempfile.TemporaryDirectory(prefix="kbert-check-") as place:
        copy = Path(place) / "moved" / export.folder.name
        shutil.copytree(export.folder, copy, symlinks=True)
        try:
            session.load(copy)
            received = ask_texts(export, _TEXTS)
        except ExportError as error:
            raise FailError(
                f"a copy in another folder does not answer: {error}. Export without "
                "symbolic links and paths."
            ) from None
        finally:
            session.load(export.folder)
    expect_same(export, _TEXTS, expected, received, "a copy in another folder")
    return ""


def needs_no_python(export: Export) -> str:
    """Point 15: it loads and answers where keras, keras_hub and kbert are not."""
    if error := first_answer_error(export):
        raise FailError(
            f"it does not answer where there is no Keras and no kbert: {error}. "
            "Write that part in TensorFlow's ops."
        )
    return ""


def loads_as_a_server_does(export: Export) -> str:
    """Point 16: TensorFlow 1's loader, with all of tensorflow-text's ops at hand."""
    loading = export.loading
    if loading.session is None:
        raise FailError(f"it does not load: {loading.error}. Export the run again.")
    if logged := [m for m in loading.logged if not _ABOUT_THE_MACHINE.search(m)]:
        raise FailError(f"TensorFlow logs errors while it loads: {some(logged)}")
    return ""


def loads_with_portable_ops(export: Export) -> str:
    """Point 17. Where the card asks for TensorFlow Serving 2.20 or later, all of
    tensorflow-text's ops may be there."""
    if export.session and export.loading.portable_error:
        if export.oldest_serving >= (2, 20):
            return "with all of tensorflow-text's ops, for servers since 2.20"
        raise FailError(
            f"it does not load with {some(probe.PORTABLE)} alone: "
            f"{export.loading.portable_error}. Use portable ops (point 5)."
        )
    return ""


def loads_natively(export: Export) -> str:
    """Point 18. With the portable ops alone, hence not asked where point 17 fails."""
    if not export.session or export.loading.portable_error:
        raise SkipError("it does not load with the portable ops (point 17)")
    if error := export.load_natively():
        raise FailError(
            f"TensorFlow's C++ loader, which servers use, says: {error}. "
            "Export the run again."
        )
    return ""


CHECKS = (
    Check(14, "a copy elsewhere answers alike", can_be_moved),
    Check(15, "answers without Keras and kbert", needs_no_python),
    Check(16, "loads as a server loads it, without errors", loads_as_a_server_does),
    Check(17, "loads with the portable ops alone", loads_with_portable_ops),
    Check(18, "loads through TensorFlow's C++ loader", loads_natively),
)


def _load(folder: Path, stack: contextlib.ExitStack) -> Loading:
    portable_error = ""
    try:
        servable = FreshServable(folder, timeout=_MOST_SECONDS)
        stack.enter_context(servable)
    except ExportError as error:
        portable_error = str(error)
        if _NO_SUCH_OP not in portable_error:
            return Loading(None, portable_error, portable_error)
        try:
            servable = FreshServable(folder, libraries="all", timeout=_MOST_SECONDS)
            stack.enter_context(servable)
        except ExportError as last_error:
            return Loading(None, str(last_error), portable_error)
    return Loading(servable, "", portable_error, servable.logged_errors())

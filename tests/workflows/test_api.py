"""The Python API beside the commands."""

import subprocess
import sys


def test_warnings_reach_a_script_that_set_up_no_logging() -> None:
    code = (
        "import logging, kbert; kbert.load\n"
        "logging.getLogger('kbert.workflows.job').warning('%s is seen', 'it')\n"
        "logging.getLogger('kbert.workflows.job').info('a note')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "it is seen" in done.stderr
    assert "a note" not in done.stderr
    assert done.stdout == ""

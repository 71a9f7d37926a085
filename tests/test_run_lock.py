"""One process a run."""

import subprocess
import sys
from pathlib import Path

import pytest

from kbert.errors import RunError
from kbert.run_lock import locked

HOLDING = """
import sys, time
from pathlib import Path
from kbert.run_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(run: Path) -> subprocess.Popen[str]:
    """Another process that holds a run."""
    command = [sys.executable, "-c", HOLDING, str(run)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_and_told_who_has_it(tmp_path):
    with hold(tmp_path) as other:
        try:
            with pytest.raises(RunError, match=f"process {other.pid} on") as caught:
                with locked(tmp_path):
                    raise AssertionError("it was let in")
            assert str(tmp_path) in str(caught.value)
        finally:
            other.kill()


def test_a_killed_process_holds_nothing(tmp_path):
    with hold(tmp_path) as other:
        other.kill()
        other.wait()
        with locked(tmp_path):
            pass


def test_it_is_free_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        1 / 0  # noqa: B018
    with locked(tmp_path):
        pass


def test_within_a_process_too_it_is_held_once(tmp_path):
    with locked(tmp_path), pytest.raises(RunError, match="Another process"):
        with locked(tmp_path):
            raise AssertionError("it was let in")


def test_a_link_in_its_place_is_not_followed(tmp_path):
    outside = tmp_path / "outside"
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").symlink_to(outside)
    with pytest.raises(OSError), locked(run):
        raise AssertionError("it was followed")
    assert not outside.exists()

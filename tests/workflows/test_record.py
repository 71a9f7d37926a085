"""What `kbert.json` says at each moment of a training."""

import errno
from types import SimpleNamespace

import pytest

from kbert.runs import RunFolder
from kbert.workflows import record as module
from kbert.workflows.record import Record


@pytest.fixture
def clock(monkeypatch):
    """Settable seconds."""
    now = [100.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_from_running_to_finished(tmp_path, clock):
    run = RunFolder(tmp_path)
    record = Record()
    clock[0] += 3
    record.begin(run, precision="float32", data={"name": "reviews"})
    info = run.read_info()
    assert (info["status"], info["data"]) == ("running", {"name": "reviews"})
    assert info["machine"]["precision"] == "float32"
    assert "seconds" not in info
    clock[0] += 5
    record.note_trained()
    clock[0] += 0.504
    record.finish(steps=7, data={"name": "all of it"})
    done = run.read_info()
    assert done["status"] == "finished"
    assert done["seconds"] == {"until_training": 3, "training": 5, "total": 8.5}
    assert (done["steps"], done["data"]) == (7, {"name": "all of it"})
    assert done["peak_memory_bytes"] > 0
    assert done["started"] == info["started"]


def test_an_early_end_is_noted_where_the_disk_has_room(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    record = Record()
    record.begin(run, precision="float32", data={})
    record.note_early_end("interrupted")
    assert run.read_info()["status"] == "interrupted"

    def full(*arguments):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(RunFolder, "write_info", full)
    record.note_early_end("failed")  # the error that ended it is the one to be seen
    monkeypatch.undo()
    assert run.read_info()["status"] == "interrupted"

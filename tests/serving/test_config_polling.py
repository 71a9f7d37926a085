"""A config file that changes while the server serves."""

import logging
import time
from pathlib import Path

import pytest

from kbert.errors import ConfigError
from kbert.serving.config_polling import ConfigPoller
from kbert.serving.status import Code, StatusError


class Applied(list[str]):
    """What was applied; "refused" is not."""

    def __call__(self, config: str) -> None:
        if config == "refused":
            raise StatusError(Code.INVALID_ARGUMENT, "refused it")
        self.append(config)


def read(path: Path) -> str:
    text = path.read_text()
    if text == "broken":
        raise ConfigError("broken it is")
    return text


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "kbert")
    logging.getLogger("kbert").propagate = True
    return caplog


def after_a_first_look(
    folder: Path, log: pytest.LogCaptureFixture
) -> tuple[Path, Applied, ConfigPoller]:
    file, applied = folder / "file", Applied()
    file.write_text("first")
    poller = ConfigPoller(file, read, applied, 3600)
    poller.look()
    assert applied == ["first"]
    applied.clear()
    log.clear()
    return file, applied, poller


def test_only_changes_are_applied(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    file, applied, poller = after_a_first_look(tmp_path, log)
    poller.look()
    assert applied == []
    file.write_text("second")
    poller.look()
    poller.look()
    assert applied == ["second"]
    assert [record.message for record in log.records] == [
        f"{file} has changed and is applied"
    ]


def test_a_broken_file_is_complained_about_once(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    file, applied, poller = after_a_first_look(tmp_path, log)
    file.write_text("broken")
    for _ in range(3):
        poller.look()
    assert [record.levelname for record in log.records] == ["WARNING"]
    assert "broken it is" in log.records[0].message
    file.write_text("first")
    poller.look()
    file.write_text("broken")
    poller.look()
    assert len(log.records) == 2
    assert applied == []


def test_what_was_half_applied_is_replaced(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    file, applied, poller = after_a_first_look(tmp_path, log)
    file.write_text("refused")
    poller.look()
    assert "refused it" in log.records[0].message
    file.write_text("first")
    poller.look()
    assert applied == ["first"]


def test_the_thread_looks_and_ends(tmp_path: Path) -> None:
    file, applied = tmp_path / "file", Applied()
    file.write_text("second")
    poller = ConfigPoller(file, read, applied, 0.01)
    poller.start("first")
    while not applied:
        time.sleep(0.01)
    poller.announce_stop()
    poller.join()
    file.write_text("third")
    assert applied == ["second"]

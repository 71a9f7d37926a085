"""The command line in this process, so that TensorFlow is imported once."""

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kbert_cli.main import main
from tests.preset_folders import write_keras_hub_preset


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: the exit code.
        out: standard output.
        err: standard error.
    """

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The one error message; fails where there is none, or anything beside it."""
        assert "Traceback" not in self.err
        before, mark, message = self.err.partition("Error: ")
        assert mark, f"no error in {self.err!r}"
        assert "Error" not in before + message
        return message


Kbert = Callable[..., Outcome]


@pytest.fixture
def kbert(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Kbert]:
    """Runs a `kbert` command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("kbert")
    before = list(logger.handlers), logger.level, logger.propagate
    on_termination = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["kbert", *map(str, arguments)])
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        captured = capsys.readouterr()
        return Outcome(int(str(code)), captured.out, captured.err)

    yield run
    logger.handlers[:], logger.level, logger.propagate = before
    signal.signal(signal.SIGTERM, on_termination)


@pytest.fixture(scope="session")
def tiny_preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 2 layers x 8 with 16 positions that knows the letters a to j."""
    return write_keras_hub_preset(tmp_path_factory.mktemp("presets") / "tiny")

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

GOOD = ["a b c,yes", "d e f,no", "g h,yes", "i j,no", "b c,yes", "e,no"] * 3


def write_csv(name: str = "good.csv", rows: list[str] | None = None) -> Path:
    """A small data set in the working directory, `GOOD` by default."""
    path = Path(name)
    lines = ["text,label", *(GOOD if rows is None else rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


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
    handled = (signal.SIGTERM, signal.SIGALRM)
    handlers = {number: signal.getsignal(number) for number in handled}

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
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def tiny_preset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 2 layers x 8 with 16 positions that knows the letters a to j."""
    return write_keras_hub_preset(tmp_path_factory.mktemp("presets") / "tiny")


@pytest.fixture
def finetune(kbert: Kbert, tiny_preset: Path) -> Kbert:
    """`kbert finetune` with the tiny preset, two steps, into `run`."""

    def run(*arguments: object) -> Outcome:
        preset = () if "--preset" in arguments else ("--preset", tiny_preset)
        data = () if "--data" in arguments else ("--data", write_csv())
        short = ("--output", "run", "--set", "train.max_steps=2")
        return kbert("finetune", *short, *preset, *data, *arguments)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_preset: Path) -> Path:
    """A finished run on `GOOD`."""
    import kbert

    folder = tmp_path_factory.mktemp("trained")
    data = folder / "good.csv"
    data.write_text("\n".join(["text,label", *GOOD]), encoding="utf-8")
    settings = {"train.max_steps": 2, "data.max_length": 16}
    kbert.finetune(
        str(tiny_preset), str(data), output=folder / "run", settings=settings
    )
    return folder / "run"

"""The good folders, made once, and a place to damage a copy."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from kbert.errors import UserError
from tests.security.folders import WRITERS, nothing_changes, use

CANARY = "kbert_canary"


@dataclass
class Case:
    """A copy of a good folder, and what must not be touched.

    Attributes:
        kind: one of `WRITERS`.
        folder: the copy.
        outside: a folder beside it.
        ran: the file that code of the preset would make.
    """

    kind: str
    folder: Path
    outside: Path
    ran: Path

    def outcome(self, *, ask: bool = False) -> UserError | None:
        """Loads the folder; the error, None where it loads."""
        error = None
        with nothing_changes(self.outside):
            try:
                use(self.kind, self.folder, ask=ask)
            except UserError as problem:
                error = problem
        assert not self.ran.exists(), "code of the folder ran"
        return error

    def refused(self) -> str:
        """The message with which it is refused."""
        error = self.outcome()
        assert error is not None, "it was loaded"
        return str(error)


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good folder of each kind, by its name."""
    folder = tmp_path_factory.mktemp("good")
    for kind, write in WRITERS.items():
        write(folder / kind)
    return folder


@pytest.fixture
def case(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Case]:
    def make(kind: str) -> Case:
        outside = tmp_path / "outside"
        outside.mkdir()
        ran = tmp_path / "ran"
        module = tmp_path / "modules" / f"{CANARY}.py"
        module.parent.mkdir()
        module.write_text(f"open({str(ran)!r}, 'w').close()\n")
        monkeypatch.syspath_prepend(module.parent)
        folder = shutil.copytree(good / kind, tmp_path / "inside" / kind)
        return Case(kind, folder, outside, ran)

    return make

"""A toy export that is as it has to be, to copy and to break."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorflow.core.protobuf import saved_model_pb2

from kbert.errors import ExportError
from kbert.exporting.checks.opened import Export, Loading
from kbert.exporting.checks.points import Point, judge
from kbert.exporting.checks.runner import CHECKS
from tests.exporting.toy_export import InProcess, write_toy_export

Outputs = dict[str, np.ndarray]


@dataclass
class Answers:
    """A session that answers as the toy export does, whatever folder is checked.

    Attributes:
        real: the toy export, loaded.
        change: what is done to answers: takes signature, inputs and outputs.
    """

    real: InProcess
    change: Callable[[str, Mapping[str, np.ndarray], Outputs], Outputs] = (
        lambda signature, inputs, outputs: outputs
    )

    def call(self, signature: str, inputs: Mapping[str, np.ndarray]) -> Outputs:
        return self.change(signature, inputs, self.real.call(signature, inputs))

    def wordpiece(self, model: bytes, words: Sequence[bytes]) -> list[list[int]]:
        return self.real.wordpiece(model, words)

    def load(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ExportError(f"{folder} is not there")


@dataclass
class Checked:
    """A copy of the toy export that a test breaks, and then looks at."""

    folder: Path
    answers: Answers
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def extra(self) -> Path:
        return self.folder / "assets.extra"

    def edit_graph(self, change: Callable[[Any], object]) -> None:
        """Changes the MetaGraphDef of saved_model.pb."""
        file = self.folder / "saved_model.pb"
        model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
        change(model.meta_graphs[0])
        file.write_bytes(model.SerializeToString())

    def export(self) -> Export:
        fields = {
            "open": lambda: Loading(self.answers),
            "load_natively": lambda: "",
            "round_trip": lambda folder: None,
            **self.fields,
        }
        return Export(self.folder, **fields)

    def points(self) -> dict[int, Point]:
        """Every point, looked at without a process."""
        export = self.export()
        return {check.number: judge(check, export) for check in CHECKS}

    def failing(self) -> dict[int, str]:
        """Number and detail of the points that fail."""
        points = self.points().values()
        return {p.number: p.detail for p in points if p.status == "fail"}


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a good export; not to be changed."""
    return write_toy_export(tmp_path_factory.mktemp("models") / "toy" / "1")


@pytest.fixture(scope="session")
def toy_session(toy: Path) -> InProcess:
    return InProcess(toy)


@pytest.fixture
def checked(toy: Path, toy_session: InProcess, tmp_path: Path) -> Checked:
    folder = shutil.copytree(toy, tmp_path / "models" / "toy" / "1")
    return Checked(folder, Answers(toy_session))

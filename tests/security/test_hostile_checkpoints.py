"""A run from a stranger that is to go on: refused by name, nothing outside changes."""

import json
import os
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import kbert
from kbert.checksums import SUMS, write_sums
from kbert.errors import Interrupted, UserError
from kbert.runs import RunFolder
from kbert.tasks import TextClassification
from kbert.training.checkpoints import (
    STATE,
    VARIABLES,
    list_checkpoints,
    restore,
    variables_of,
    write_checkpoint,
)
from kbert.training.optimizer import AdamW
from kbert.workflows.reporting import RunListener
from tests.preset_folders import write_keras_hub_preset
from tests.security.folders import DAMAGES, nothing_changes
from tests.tiny import build_model
from tests.workflows.conftest import write_examples

ENTRIES = (
    "config.toml",
    "task.json",
    "history.jsonl",
    "kbert.json",
    "checkpoints",
    "logs",
    "logs/train",
    "encoded",
    "encoded/train",
    "encoded/train/token_ids",
    "model",
    "model/config.json",
    "checkpoints/step-00000006",
    f"checkpoints/step-00000006/{STATE}",
    f"checkpoints/step-00000006/{VARIABLES}",
)


@pytest.fixture(scope="module")
def _stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write_keras_hub_preset(folder / "preset")
    whole = RunListener.on_step

    def stop(self: RunListener, step: Any) -> None:
        whole(self, step)
        if step.number == 6:
            raise Interrupted("stopped", 15)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(RunListener, "on_step", stop)
        kbert.finetune(
            folder / "preset",
            write_examples(folder / "examples.csv"),
            output=folder / "run",
            batch_size=8,
            precision="float32",
            settings={
                "data.text": "review",
                "data.label": "verdict",
                "train.max_steps": 8,
                "train.eval_steps": 2,
                "train.checkpoint_steps": 3,
            },
        )
    # As kill -9 leaves it: nothing after the checkpoint of step 5.
    return folder / "run"


@pytest.fixture
def stopped(_stopped: Path, tmp_path: Path) -> Path:
    run = Path(shutil.copytree(_stopped, tmp_path / "inside" / "run"))
    (tmp_path / "outside").mkdir()
    return run


def last_checkpoint(run: Path) -> Path:
    return list_checkpoints(run / "checkpoints")[-1]


def refused(run: Path) -> str:
    """With what it is refused; nothing outside the run is touched."""
    with nothing_changes(run.parent.parent / "outside"):
        with pytest.raises(UserError) as caught:
            kbert.finetune(resume=run)
    return str(caught.value)


def change_state(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Another state, with sums that fit, in every checkpoint."""
    for path in list_checkpoints(run / "checkpoints"):
        state = json.loads((path / STATE).read_text())
        change(state)
        (path / STATE).write_text(json.dumps(state))
        write_sums(path)


def test_the_good_one_goes_on(stopped: Path) -> None:
    (stopped / "best").symlink_to("model")  # a link within is its owner's affair
    run = kbert.finetune(resume=stopped)
    assert RunFolder(run.path).read_info()["steps"] == 8


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_link_leads_nowhere(stopped: Path, tmp_path: Path, entry: str) -> None:
    path = stopped / entry
    if "step-" in entry:
        step = last_checkpoint(stopped)
        path = step if entry.endswith("06") else step / path.name
    moved = tmp_path / "outside" / path.name
    shutil.move(path, moved)
    path.symlink_to(moved)
    assert "leads out of its folder" in refused(stopped)


def test_a_link_that_makes_a_file_elsewhere(stopped: Path, tmp_path: Path) -> None:
    (stopped / "metrics.json").symlink_to(tmp_path / "outside" / "new.json")
    assert "leads out of its folder" in refused(stopped)


def test_kept_tokens_are_of_the_vocabulary(stopped: Path) -> None:
    folder = stopped / "encoded" / "train"
    ids = np.fromfile(folder / "token_ids", "<i4")
    np.full_like(ids, 200).tofile(folder / "token_ids")
    write_sums(folder)
    assert "an id is not within 0 and" in refused(stopped)


@pytest.mark.parametrize("name", [STATE, VARIABLES, SUMS])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_stands_in_place_of_a_file_of_each_checkpoint(
    stopped: Path, tmp_path: Path, name: str, damage: str
) -> None:
    paths = list_checkpoints(stopped / "checkpoints")
    for number, path in enumerate(paths):
        outside = tmp_path / "outside" / str(number)
        outside.mkdir()
        DAMAGES[damage](path / name, outside)
    message = refused(stopped)
    assert name in message or "leads out" in message
    assert len(message) < 2000


@pytest.mark.parametrize("name", [STATE, VARIABLES])
def test_a_file_has_to_be_listed(stopped: Path, name: str) -> None:
    for path in list_checkpoints(stopped / "checkpoints"):
        lines = (path / SUMS).read_text().splitlines(keepends=True)
        (path / SUMS).write_text("".join(li for li in lines if name not in li))
    assert name in refused(stopped)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ("progress.step", True),
        ("progress.step", -1),
        ("progress.position", None),
        ("progress.position.step", 5.0),
        ("progress.position.step", 10**30),
        ("progress.best", "good"),
        ("progress.loss_sum", {}),
        ("progress.disappointments", []),
        ("listener.history", {}),
        ("listener.history", [{}]),
        ("listener.history", [{"step": 2, "validation": {"accuracy": "high"}}]),
        ("listener.history", [{"step": "2", "validation": {}}]),
        ("listener.num_tokens", "many"),
        ("listener.best_step", "last"),
        ("seconds", None),
        ("backend", 1),
        ("versions", {"keras": 3}),
        ("data", 1),
        ("format", 99),
        ("format", None),
    ],
)
def test_what_a_state_must_not_say(stopped: Path, keys: str, value: object) -> None:
    def change(state: dict[str, Any]) -> None:
        *parents, last = keys.split(".")
        for key in parents:
            state = state[key]
        state[last] = value

    change_state(stopped, change)
    assert STATE in refused(stopped)


def _header(text: bytes) -> bytes:
    """A .npy file with this header."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _members(change: Callable[[str, bytes], bytes]) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, change(name, content))

    return damage


def _patch_central_directory(offset: int, value: int) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        start = content.find(b"PK\x01\x02")
        content[start + offset : start + offset + 2] = struct.pack("<H", value)
        file.write_bytes(content)

    return damage


def _object_array(name: str, content: bytes) -> bytes:
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"
    return _header(header.encode()) + b"cos\nsystem\n(S'true'\ntR."


ARCHIVES: dict[str, Callable[[Path], object]] = {
    "header of brackets": _members(lambda *_: _header(b"(((")),
    "header with code": _members(lambda *_: _header(b"__import__('os').getcwd()")),
    "header indented": _members(lambda *_: _header(b"  {\n {")),
    "header nested": _members(lambda *_: _header(b"[" * 9000)),
    "pickled objects": _members(_object_array),
    "no members": lambda file: zipfile.ZipFile(file, "w").close(),
    "no archive": lambda file: file.write_bytes(b"PK" * 5000),
    "a shape of a terabyte": _members(
        lambda *_: _header(
            b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776,)}"
        )
    ),
    "another type": _members(
        lambda *_: _header(b"{'descr': '<c16', 'fortran_order': False, 'shape': ()}")
    ),
    "encrypted": _patch_central_directory(8, 1),
    "patched data": _patch_central_directory(8, 1 << 5),
    "strong encryption": _patch_central_directory(8, 1 << 6),
    "of a later version": _patch_central_directory(6, 200),
    "of an unknown compression": _patch_central_directory(10, 77),
}


@pytest.fixture(scope="module")
def variables() -> dict[str, keras.Variable]:
    model = build_model(TextClassification(("neg", "pos")))
    optimizer = AdamW(1e-3)
    model.compile(optimizer=optimizer)
    optimizer.build(model.trainable_variables)
    return variables_of(model)


@pytest.mark.parametrize("archive", ARCHIVES)
def test_archives_that_are_none(
    variables: dict[str, keras.Variable], tmp_path: Path, archive: str
) -> None:
    write_checkpoint(tmp_path, 1, variables, {}, keep=1)
    (path,) = list_checkpoints(tmp_path)
    restore(path, variables)
    ARCHIVES[archive](path / VARIABLES)
    with pytest.raises(UserError, match=VARIABLES):
        restore(path, variables)


@pytest.mark.parametrize("damage", ["pipe", "socket", "link to a device", "folder"])
def test_a_lock_that_is_no_file(stopped: Path, tmp_path: Path, damage: str) -> None:
    (stopped / ".lock").touch()
    DAMAGES[damage](stopped / ".lock", tmp_path / "outside")
    with nothing_changes(tmp_path / "outside"):
        with pytest.raises((UserError, OSError), match=r"\.lock"):
            kbert.finetune(resume=stopped)


def test_a_folder_of_another_program_is_no_run(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "config.toml").write_text('baseURL = "https://example.org"\n')
    with pytest.raises(UserError, match=r"is no run: .*'baseURL' is no section"):
        kbert.finetune(output=site)
    assert os.listdir(site) == ["config.toml"]

"""Checkpoints: what is written comes back, and what is damaged is never used."""

import errno
import json
import logging
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from kbert import checksums
from kbert.checksums import SUMS, write_sums
from kbert.errors import RunError
from kbert.tasks import TextClassification
from kbert.training.checkpoints import (
    STATE,
    VARIABLES,
    list_checkpoints,
    read_latest,
    restore,
    variables_of,
    write_checkpoint,
)
from kbert.training.optimizer import AdamW
from tests.tiny import build_model

TASK = TextClassification(labels=("no", "yes"))


def trained_model(num_layers: int = 1) -> keras.Model:
    """A model whose weights, moments and seeds are all random numbers."""
    model = build_model(TASK, num_layers=num_layers, dropout=0.1)
    optimizer = AdamW(1e-3, gradient_accumulation_steps=2)
    model.compile(optimizer=optimizer, loss=TASK.loss())
    optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    for variable in variables_of(model).values():
        value = rng.integers(0, 1000, variable.shape)
        variable.assign(value.astype(variable.dtype))
    return model


def values(model: keras.Model) -> dict[str, np.ndarray]:
    return {name: np.asarray(v) for name, v in variables_of(model).items()}


def zero(model: keras.Model) -> None:
    for variable in variables_of(model).values():
        variable.assign(np.zeros(variable.shape, variable.dtype))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return trained_model()


@pytest.fixture(scope="module")
def written(model, tmp_path_factory) -> Path:
    """Two checkpoints, of the steps 10 and 20, with the same variables."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    for step in (10, 20):
        write_checkpoint(folder, step, variables_of(model), {"step": step}, keep=2)
    return folder


@pytest.fixture
def folder(written, tmp_path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "checkpoints"))


def test_every_variable_comes_back(model, folder):
    before = values(model)
    kinds = {name.partition(".")[2] for name in before}
    assert {"kernel", "seed_generator_state", "iteration", "num_skipped"} <= kinds
    assert any("momentum" in kind for kind in kinds)
    assert any("accumulator" in kind for kind in kinds)
    path, state = read_latest(folder)
    assert (path.name, state["step"]) == ("step-00000020", 20)
    zero(model)
    restore(path, variables_of(model))
    for name, value in values(model).items():
        assert value.dtype == before[name].dtype
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_numpy_reads_it(model, folder):
    with np.load(folder / "step-00000010" / VARIABLES, allow_pickle=False) as arrays:
        assert sorted(arrays) == sorted(variables_of(model))
        for name, value in values(model).items():
            np.testing.assert_array_equal(arrays[name], value)


def test_the_same_state_is_the_same_file(model, folder):
    files = [(path / VARIABLES).read_bytes() for path in list_checkpoints(folder)]
    assert files[0] == files[1]


def test_the_last_ones_are_kept(model, folder):
    (folder / ".step-00000030.tmp-1").mkdir()  # of a process that was killed
    for step in (30, 200):
        write_checkpoint(folder, step, variables_of(model), {}, keep=3)
    names = sorted(path.name for path in folder.iterdir())
    assert names == [".kept", "step-00000020", "step-00000030", "step-00000200"]


def test_a_checkpoint_of_the_same_step_takes_its_place(model, folder):
    write_checkpoint(folder, 20, variables_of(model), {"step": "anew"}, keep=2)
    assert [path.name for path in list_checkpoints(folder)] == [
        "step-00000010",
        "step-00000020",
    ]
    assert read_latest(folder)[1]["step"] == "anew"


def test_no_checkpoint_is_none(tmp_path):
    assert read_latest(tmp_path) is None
    assert read_latest(tmp_path / "not there") is None


def boundaries() -> list[tuple[str, int]]:
    """The files of a checkpoint, and where in each to cut or to flip."""
    return [
        (STATE, 7),
        (VARIABLES, 40),
        (VARIABLES, 5_000),
        (VARIABLES, -30),
        (SUMS, 9),
    ]


@pytest.mark.parametrize(("name", "place"), boundaries())
@pytest.mark.parametrize("kind", ["flipped", "cut", "grown", "gone", "a link"])
def test_a_damaged_one_is_named_and_the_one_before_is_used(
    folder, name, place, kind, caplog
):
    file = folder / "step-00000020" / name
    _damage(file, place, kind)
    with caplog.at_level(logging.WARNING):
        path, state = read_latest(folder)
    assert (path.name, state["step"]) == ("step-00000010", 10)
    assert "step-00000020 is damaged" in caplog.text
    assert "from the one before, step-00000010" in caplog.text


def test_it_is_recognised_wherever_it_is_cut(folder):
    file = folder / "step-00000020" / VARIABLES
    whole = file.read_bytes()
    for size in range(0, len(whole), 4096):
        file.write_bytes(whole[:size])
        assert read_latest(folder)[1]["step"] == 10, size
    file.write_bytes(whole)
    assert read_latest(folder)[1]["step"] == 20


def test_what_cannot_be_read_now_is_no_damage(folder, monkeypatch):
    # The one before would be gone on from, and this one deleted.
    def fail(path):
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr(checksums, "_sha256", fail)
    with pytest.raises(OSError, match="Input/output error"):
        read_latest(folder)
    assert len(list_checkpoints(folder)) == 2


def test_another_end_of_a_line_in_the_sums_is_damage(folder):
    file = folder / "step-00000020" / SUMS
    file.write_bytes(file.read_bytes().replace(b"\n", b"\x0b", 1))
    assert read_latest(folder)[1]["step"] == 10


def test_without_a_whole_one_nothing_is_made_up(folder):
    for path in list_checkpoints(folder):
        _damage(path / VARIABLES, 300, "flipped")
    with pytest.raises(
        RunError, match=r"No checkpoint .* is whole.*another --output"
    ) as caught:
        read_latest(folder)
    assert "step-00000010" in str(caught.value)
    assert "step-00000020" in str(caught.value)


def test_a_later_format_is_not_read(folder):
    path = folder / "step-00000020"
    (path / STATE).write_text(json.dumps({"format": 2}))
    write_sums(path)
    assert read_latest(folder)[0].name == "step-00000010"


def test_a_full_disk_leaves_the_earlier_ones(model, folder, monkeypatch):
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OSError, match="No space left") as caught:
        write_checkpoint(folder, 30, variables_of(model), {}, keep=1)
    assert caught.value.errno == errno.ENOSPC
    assert "step-00000030" in caught.value.filename
    names = sorted(path.name for path in folder.iterdir())
    assert names == [".kept", "step-00000010", "step-00000020"]


def test_killed_between_two_renames_it_is_put_back(folder):
    (folder / "step-00000020").rename(folder / ".step-00000020.old")
    path, state = read_latest(folder)
    assert (path.name, state["step"]) == ("step-00000020", 20)


def test_another_model_is_refused_and_left_as_it_is(folder):
    path, _ = read_latest(folder)
    deeper = trained_model(num_layers=2)
    before = values(deeper)
    with pytest.raises(RunError, match="does not fit the model"):
        restore(path, variables_of(deeper))
    for name, value in values(deeper).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, np.float32),
        np.array([{"a": 1}], object),
        np.zeros((), "float64"),
        np.zeros((), "complex64"),
    ],
)
def test_an_array_that_is_not_the_models_is_refused(model, folder, array, tmp_path):
    path, _ = read_latest(folder)
    before = values(model)
    _replace_member(path / VARIABLES, "optimizer/0000.iteration.npy", array)
    with pytest.raises(RunError, match=r"does not fit the model.*iteration"):
        restore(path, variables_of(model))
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_shape_of_a_terabyte_is_not_allocated(model, folder):
    path, _ = read_latest(folder)
    name = "model/0000.positions.npy"
    with zipfile.ZipFile(path / VARIABLES) as archive:
        content = {info: archive.read(info) for info in archive.namelist()}
    assert name in content
    shape, padding = b"(32, 8), }", b" " * 8
    huge = b"(999999999999,), }"
    assert shape + padding in content[name][:128]
    header = content[name][:128].replace(shape + padding, huge)
    content[name] = header + content[name][128:]
    _write(path / VARIABLES, content)
    with pytest.raises(RunError, match="does not fit the model"):
        restore(path, variables_of(model))


def test_the_seeds_of_another_backend_fit(model, folder):
    path, _ = read_latest(folder)
    name = next(n for n in variables_of(model) if n.endswith("seed_generator_state"))
    other = {"int64": "uint32", "uint32": "int64"}[str(variables_of(model)[name].dtype)]
    expected = np.asarray(variables_of(model)[name])
    _replace_member(path / VARIABLES, f"{name}.npy", expected.astype(other))
    zero(model)
    restore(path, variables_of(model))
    np.testing.assert_array_equal(np.asarray(variables_of(model)[name]), expected)


def _damage(file: Path, place: int, kind: str) -> None:
    content = bytearray(file.read_bytes())
    if kind == "flipped":
        content[place] ^= 0x10
    elif kind == "cut":
        del content[place:]
    elif kind == "grown":
        content += b"\0"
    file.unlink()
    if kind == "a link":
        aside = file.with_name("aside")
        aside.write_bytes(content)
        file.symlink_to(aside)
    elif kind != "gone":
        file.write_bytes(content)


def _replace_member(file: Path, name: str, array: np.ndarray) -> None:
    with zipfile.ZipFile(file) as archive:
        content = {member: archive.read(member) for member in archive.namelist()}
    assert name in content
    with zipfile.ZipFile(file, "w") as archive:
        for member, data in content.items():
            with archive.open(member, "w") as stream:
                if member == name:
                    np.lib.format.write_array(stream, array, allow_pickle=True)
                else:
                    stream.write(data)


def _write(file: Path, content: dict[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for member, data in content.items():
            archive.writestr(member, data)

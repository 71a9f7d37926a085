"""The folder of a model: names, numbers, and publishing in one step."""

import os
import stat
from pathlib import Path

import pytest

from kbert.errors import ExportError
from kbert.exporting.versions import (
    building,
    check_target,
    model_name,
    publish,
    versions_in,
)


def write(folder: Path, version: int | None = None, text: str = "new") -> Path:
    with building(folder) as hidden:
        (hidden / "variables").mkdir()
        (hidden / "variables" / "file").write_text(text)
        return publish(hidden, folder, version)


def test_versions_count_from_one_and_follow_the_highest(tmp_path: Path):
    folder = tmp_path / "new" / "reviews"
    assert [write(folder).name for _ in range(2)] == ["1", "2"]
    assert write(folder, 7).name == "7"
    assert write(folder).name == "8"
    assert versions_in(folder) == {n: folder / str(n) for n in (1, 2, 7, 8)}
    assert sorted(os.listdir(folder)) == ["1", "2", "7", "8"]


def test_what_a_server_does_not_see_does_not_count(tmp_path: Path):
    for name in ("v9", "1.0", "9_tmp", ".export-12", "00004"):
        (tmp_path / name).mkdir()
    assert versions_in(tmp_path) == {4: tmp_path / "00004"}
    (tmp_path / "4").mkdir()
    assert versions_in(tmp_path) == {4: tmp_path / "4"}


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to("nowhere")])
def test_a_file_with_a_number_for_its_name_is_passed_over(tmp_path: Path, make):
    make(tmp_path / "12")
    assert write(tmp_path).name == "13"
    with pytest.raises(ExportError, match="has a version 12 already"):
        check_target(tmp_path, 12)


def test_nothing_else_in_the_folder_is_touched(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".export-other").mkdir()
    write(tmp_path / ".", 3)
    assert sorted(os.listdir(tmp_path)) == [".export-other", "3", "notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_error_leaves_nothing(tmp_path: Path):
    folder = tmp_path / "reviews"
    with pytest.raises(RuntimeError, match="stop"), building(folder) as hidden:
        (hidden / "half").write_text("")
        raise RuntimeError("stop")
    assert not folder.exists()
    folder.mkdir()
    with pytest.raises(RuntimeError, match="stop"), building(folder) as hidden:
        raise RuntimeError("stop")
    assert os.listdir(folder) == []


def test_a_version_is_never_overwritten(tmp_path: Path):
    folder = tmp_path / "reviews"
    write(folder, 2, "old")
    with pytest.raises(ExportError, match="has a version 2 already"):
        check_target(folder, 2)
    with pytest.raises(ExportError, match="has a version 2 already"):
        write(folder, 2, "new")
    assert (folder / "2" / "variables" / "file").read_text() == "old"
    assert os.listdir(folder) == ["2"]


def test_another_export_may_take_the_next_number_first(tmp_path: Path, monkeypatch):
    folder = tmp_path / "reviews"
    rename = os.rename

    def late(source, target):
        if Path(target).name == "1":
            Path(target, "other").mkdir(parents=True)
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    assert write(folder).name == "2"
    assert os.listdir(folder / "1") == ["other"]


def test_everybody_may_read_a_version(tmp_path: Path):
    mask = os.umask(0o077)
    try:
        path = write(tmp_path / "reviews")
    finally:
        os.umask(mask)
    for found in (path, path / "variables", path / "variables" / "file"):
        assert found.stat().st_mode & stat.S_IROTH, found


@pytest.mark.parametrize("name", ["12", "a:b", "a b", "ü", "-x", ".hidden"])
def test_a_name_that_addresses_cannot_hold(tmp_path: Path, name: str):
    with pytest.raises(ExportError, match="name"):
        check_target(tmp_path / name, None)


def test_a_name_is_that_of_the_folder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_name(Path("saved_models/re-views_2.1")) == "re-views_2.1"
    assert model_name(Path(".")) == tmp_path.name


@pytest.mark.parametrize("version", [0, -1, 2**63])
def test_a_version_that_is_none(tmp_path: Path, version: int):
    with pytest.raises(ExportError, match=f"Received: {version}"):
        check_target(tmp_path / "reviews", version)


def test_a_file_in_the_way(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="file is a file"):
        check_target(tmp_path / "file" / "reviews", None)

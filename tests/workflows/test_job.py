"""What precedes the model: names, the plan, the settings that a run keeps."""

import shutil
from pathlib import Path

import pytest

from kbert.config import DataSettings, FinetuneConfig, ModelSettings, TrainSettings
from kbert.new_runs import FreshName
from kbert.workflows.datasets import (
    encode_datasets,
    keep_datasets,
    with_absolute_paths,
)
from kbert.workflows.job import prepare


def test_a_job_is_prepared_and_nothing_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_preset: Path,
    examples: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    for link, target in (("here", tiny_preset), ("mine.csv", examples)):
        Path(link).symlink_to(target)
    config = FinetuneConfig(
        model=ModelSettings(preset="here"),
        data=DataSettings(source="mine.csv", text="review", label="verdict"),
        train=TrainSettings(epochs=2, max_steps=3),
    )
    with caplog.at_level("INFO", logger="kbert"):
        job = prepare(config, None)
    assert job.config.model.preset == str(tmp_path / "here")
    assert job.config.data.source == str(tmp_path / "mine.csv")
    assert str(tmp_path) not in caplog.text
    assert job.path == FreshName(Path("runs"), "mine-here")
    assert job.plan.total_steps == 3
    assert job.plan is job.plan  # it takes a look at every example
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here", "mine.csv"]


def test_without_room_the_tokens_are_not_kept_and_it_is_told(
    tmp_path: Path, tiny_preset: Path, examples: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = FinetuneConfig(
        model=ModelSettings(preset=str(tiny_preset)),
        data=DataSettings(source=str(examples), text="review", label="verdict"),
    )
    datasets = prepare(config, None).datasets
    keep_datasets(datasets, tmp_path / "encoded", needed_bytes=10**18)
    assert "No space left on device. The tokens (0 MB) are not kept" in caplog.text
    assert list((tmp_path / "encoded").iterdir()) == []


def test_what_is_kept_is_taken_in_place_of_reading(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_preset: Path,
    examples: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = DataSettings(
        source=str(examples),
        validation=str(examples),
        test=str(examples),
        text="review",
        label="verdict",
    )
    config = FinetuneConfig(model=ModelSettings(preset=str(tiny_preset)), data=data)
    job, folder = prepare(config, None), tmp_path / "encoded"
    keep_datasets(job.datasets, folder, needed_bytes=0)
    assert {path.name for path in folder.iterdir()} == {"train", "validation", "test"}
    monkeypatch.delattr("kbert.workflows.datasets.encode_source")
    again = encode_datasets(
        job.sources, job.encoder, data, seed=1, encoded_folder=folder
    )
    for role, dataset in job.datasets.by_split().items():
        kept = again.by_split()[role]
        assert kept.token_ids.tolist() == dataset.token_ids.tolist()
        assert kept.report == dataset.report
    # Of what was kept before, nothing is written again, whatever room there is.
    shutil.rmtree(folder)
    keep_datasets(again, folder, needed_bytes=10**18)
    assert not folder.exists()
    assert not caplog.records


def test_only_files_and_folders_that_exist_are_named_from_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        for label in ("no", "yes"):
            folder = tmp_path / "reviews" / split / label
            folder.mkdir(parents=True)
            (folder / "1.txt").write_text("a")
    for name in ("sample", "test", "other.csv", "tfds:x"):
        (tmp_path / name).touch()
    found = with_absolute_paths(
        DataSettings(
            source="reviews", validation="other.csv", test="test", data_dir="missing"
        )
    )
    assert found.source == str(tmp_path / "reviews")
    assert found.validation == str(tmp_path / "other.csv")
    assert found.test == "test"  # the split goes before the file
    assert found.data_dir == "missing"
    untouched = DataSettings(source="sample")
    assert with_absolute_paths(untouched) == untouched
    other = DataSettings(source="other.csv", test="test", validation="none.csv")
    found = with_absolute_paths(other)
    assert (found.test, found.validation) == (str(tmp_path / "test"), "none.csv")

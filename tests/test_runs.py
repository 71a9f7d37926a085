"""The run folder: what may be written where, and what is found again."""

import json

import pytest

from kbert.checksums import check_whole
from kbert.config import DataSettings, FinetuneConfig, TrainSettings
from kbert.errors import ConfigError, RunError
from kbert.new_runs import FreshName, check_output, create_run, new_run
from kbert.runs import open_run

CONFIG = FinetuneConfig(train=TrainSettings(epochs=2, learning_rate=1e-3))
OTHER = FinetuneConfig(
    train=TrainSettings(epochs=4, learning_rate=1e-3), data=DataSettings(limit=7)
)


def test_what_was_written_is_read(tmp_path):
    run = create_run(tmp_path / "deep" / "run", CONFIG)
    run.write_task({"labels": ["ä", "b"]})
    run.write_metrics({"test": {"accuracy": 0.5}})
    run.append_history({"step": 1})
    run.append_history({"step": 2})
    assert run.read_config() == CONFIG
    assert run.read_task() == {"labels": ["ä", "b"]}
    assert run.read_metrics() == {"test": {"accuracy": 0.5}}
    lines = run.history_file.read_text("utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_a_model_replaces_the_one_before(tmp_path):
    run = create_run(tmp_path / "run", CONFIG)
    for content in ("first", "second"):
        with run.writing_model(num_bytes=6) as folder:
            (folder / "weights").write_text(content)
    assert (run.model_folder / "weights").read_text() == "second"
    names = sorted(path.name for path in run.path.iterdir())
    assert names == ["checkpoints", "config.toml", "model"]
    listed = sorted(path.name for path in run.model_folder.iterdir())
    assert listed == ["SHA256SUMS", "weights"]


def test_output_that_is_new_or_empty_is_fine(tmp_path):
    (tmp_path / "empty").mkdir()
    check_output(tmp_path / "empty", CONFIG)
    check_output(tmp_path / "new" / "deep", CONFIG)
    assert not (tmp_path / "new").exists()


def test_output_that_is_no_run(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(RunError, match="exists and is no run"):
        check_output(tmp_path, CONFIG)
    with pytest.raises(RunError, match=r"holiday\.jpg is a file"):
        check_output(tmp_path / "holiday.jpg", CONFIG)
    with pytest.raises(RunError, match=r"holiday\.jpg is a file, so"):
        check_output(tmp_path / "holiday.jpg" / "run", CONFIG)


def test_output_of_another_config_names_what_differs(tmp_path):
    create_run(tmp_path / "run", CONFIG)
    with pytest.raises(RunError, match=r"differs in data\.limit, train\.epochs\. "):
        check_output(tmp_path / "run", OTHER)


def test_an_unfinished_run_of_the_same_config_may_start_again(tmp_path):
    run = create_run(tmp_path / "run", CONFIG)
    run.append_history({"step": 1})
    run.write_info({"status": "interrupted"})
    check_output(run.path, CONFIG)
    create_run(run.path, CONFIG)
    assert not run.history_file.exists()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("interrupted", "an interrupted run"),
        ("failed", "a failed run"),
        ("running", "a running or killed run"),
        (None, "a running or killed run"),
    ],
)
@pytest.mark.parametrize("folder", ["model", ".model.old"])
def test_a_run_that_has_a_model_is_not_overwritten(tmp_path, status, kind, folder):
    run = create_run(tmp_path / "run", CONFIG)
    if status is not None:
        run.write_info({"status": status})
    (run.path / folder).mkdir()  # .model.old: killed between two renames
    (run.path / folder / "weights").touch()
    with pytest.raises(RunError, match=f"is {kind} with this config, and holds"):
        check_output(run.path, CONFIG)
    with pytest.raises(RunError, match=f"--resume {run.path}"):
        create_run(run.path, CONFIG)
    assert (run.model_folder / "weights").exists()


def test_a_finished_run_is_not_overwritten(tmp_path):
    run = create_run(tmp_path / "run", CONFIG)
    run.write_info({"status": "finished"})
    with pytest.raises(RunError, match=f"finished run.*kbert evaluate {run.path}"):
        check_output(run.path, CONFIG)


def test_a_run_with_a_checkpoint_is_not_overwritten(tmp_path):
    run = create_run(tmp_path / "run", CONFIG)
    (run.checkpoints_folder / "step-00000010").mkdir()
    with pytest.raises(RunError, match=f"--resume {run.path}"):
        check_output(run.path, CONFIG)


def test_a_model_that_is_written_has_sums(tmp_path):
    run = create_run(tmp_path / "run", CONFIG)
    with run.writing_model(num_bytes=6) as folder:
        (folder / "weights").write_bytes(b"\x00\x01")
    check_whole(run.model_folder, RunError)
    (run.model_folder / "README.md").touch()  # to publish it: harmless
    check_whole(run.model_folder, RunError)
    (run.model_folder / "weights").write_bytes(b"\x00\x03")
    with pytest.raises(RunError, match="model is damaged: weights is not as it was"):
        check_whole(run.model_folder, RunError)
    (run.model_folder / "SHA256SUMS").unlink()  # as the message says
    check_whole(run.model_folder, RunError)


def test_a_disk_that_is_too_full(tmp_path):
    with pytest.raises(RunError, match=r"MB free, and this run needs about 1,000,000,"):
        check_output(tmp_path / "run", CONFIG, needed_bytes=10**18)


def test_opening_what_is_no_run(tmp_path):
    with pytest.raises(RunError, match="there is no such folder"):
        open_run(tmp_path / "missing")
    with pytest.raises(RunError, match=r"no config\.toml"):
        open_run(tmp_path)
    create_run(tmp_path / "run", CONFIG).write_task({})
    with pytest.raises(RunError, match="has no model"):
        open_run(tmp_path / "run")


def test_damaged_files_are_named(tmp_path):
    run = create_run(tmp_path, CONFIG)
    run.task_file.write_text('{"labels": ')
    with pytest.raises(RunError, match=r"task\.json must be a JSON file"):
        run.read_task()
    run.task_file.write_text("[1]")
    with pytest.raises(RunError, match="must hold a JSON object"):
        run.read_task()


def test_only_settings_about_reading_may_change_later(tmp_path):
    run = create_run(tmp_path, CONFIG)
    changed = run.read_config(data="x.csv", assignments=["data.text=body"])
    assert (changed.data.source, changed.data.text) == ("x.csv", "body")
    assert changed.train == CONFIG.train
    for key in ("train.epochs=1", "data.max_length=9"):
        with pytest.raises(ConfigError, match="has no effect"):
            run.read_config(assignments=[key])


def test_runs_that_start_together_get_a_folder_each(tmp_path):
    name = FreshName(tmp_path / "runs", "imdb")
    for _ in range(2):
        check_output(name, CONFIG)  # before either has written anything
    assert list(tmp_path.iterdir()) == []
    made = []
    for _ in range(3):
        with new_run(name, CONFIG) as run:
            made.append(run.path)
    expected = ("imdb", "imdb-2", "imdb-3")
    assert made == [tmp_path / "runs" / folder for folder in expected]


def test_the_folder_for_a_fresh_name_is_checked(tmp_path):
    (tmp_path / "runs").touch()
    with pytest.raises(RunError, match=r"runs is a file, so .*imdb cannot be made"):
        check_output(FreshName(tmp_path / "runs", "imdb"), CONFIG)


def test_an_output_is_checked_again_when_it_is_made(tmp_path):
    check_output(tmp_path / "run", CONFIG)
    run = create_run(tmp_path / "run", OTHER)  # another was faster
    before = run.config_file.read_text("utf-8")
    with pytest.raises(RunError, match="another config"):
        create_run(run.path, CONFIG)
    assert run.config_file.read_text("utf-8") == before

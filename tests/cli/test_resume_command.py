"""--resume and --stop-after: what a job needs that is lent a machine in slots."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.resume.same_run import differences
from tests.cli.conftest import Kbert, write_csv

LONG = ("--set", "train.max_steps=1000000", "--epochs", "1000000")
SHORT = ("--set", "train.max_steps=40", "--set", "train.eval_steps=10")


def status() -> str:
    return json.loads(Path("run/kbert.json").read_text())["status"]


def last_checkpoint() -> str:
    return max(path.name for path in Path("run/checkpoints").glob("step-*"))


def test_the_clock_stops_it_as_a_signal_does(finetune: Kbert, kbert: Kbert) -> None:
    outcome = finetune(*LONG, "--stop-after", "4s")
    assert outcome.code == 143
    last = outcome.err.splitlines()[-1]
    assert last.startswith("Interrupted: stopped after step ")
    assert last.endswith("Go on: kbert finetune --resume run")
    assert status() == "interrupted"
    first = last_checkpoint()
    again = kbert("finetune", "--resume", "run", "--stop-after", "0.1m")
    assert again.code == 143
    assert f"goes on after step {int(first.removeprefix('step-'))}" in again.err
    assert last_checkpoint() > first


def test_before_the_training_the_clock_stops_it_too(
    finetune: Kbert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kbert.workflows.job.encode_datasets", lambda *_, **__: time.sleep(60)
    )
    outcome = finetune("--stop-after", "0.2")
    assert outcome.code == 143
    last = outcome.err.splitlines()[-1]
    assert last == "Interrupted: the time of --stop-after is over"
    assert not Path("run").exists()


@pytest.mark.parametrize("value", ["soon", "0", "-1m", "9 m m", "1e3", "inf"])
def test_a_time_that_is_none_is_said(finetune: Kbert, value: str) -> None:
    outcome = finetune(f"--stop-after={value}")
    assert outcome.code == 2
    assert "must be a time above 0, such as 90s, 9m or 1.5h" in outcome.message


def test_one_command_begins_goes_on_and_ends(finetune: Kbert, kbert: Kbert) -> None:
    # In a loop until the exit code is 0: `... --output run --resume`.
    begun = finetune("--resume", *SHORT)
    assert begun.code == 0
    before = Path("run/kbert.json").read_bytes()
    again = finetune("--resume", *SHORT)
    assert again.code == 0
    assert "run is finished: nothing is left to do" in again.err
    assert again.out == begun.out
    assert Path("run/kbert.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--resume",), "--resume needs a run"),
        (("--resume", "run", "--output", "other"), "Leave --output out"),
        (("--resume", "run", "--dry-run"), "exclude each other"),
        (("--resume", "nothing"), "No run to go on with at nothing"),
    ],
)
@pytest.mark.parametrize("command", ["finetune", "pretrain"])
def test_what_makes_no_sense_is_said(
    kbert: Kbert, command: str, words: tuple[str, ...], message: str
) -> None:
    outcome = kbert(command, *words)
    assert outcome.code == 2
    assert message in outcome.message


def test_a_run_of_the_other_command_is_said(finetune: Kbert, kbert: Kbert) -> None:
    assert finetune("--set", "train.max_steps=1").code == 0
    outcome = kbert("pretrain", "--resume", "run")
    assert outcome.code == 2
    assert "kbert finetune --resume run" in outcome.message


def test_settings_of_the_past_are_refused(finetune: Kbert, kbert: Kbert) -> None:
    assert finetune(*LONG, "--stop-after", "4s").code == 143
    outcome = kbert("finetune", "--resume", "run", "--seed", 7, "--batch-size", 5)
    assert outcome.code == 2
    assert "train.batch_size, train.seed" in outcome.message


def test_pretraining_takes_the_same_options(kbert: Kbert) -> None:
    words = ("--size", "tiny", "--max-length", 32, "--set", "model.vocabulary_size=900")
    outcome = kbert(
        "pretrain", "sample", *words, "--output", "run", "--stop-after", "20s"
    )
    assert outcome.code == 143
    assert outcome.err.splitlines()[-1].endswith("kbert pretrain --resume run")
    again = kbert("pretrain", "--resume", "run", "--max-steps", 1)
    assert again.code == 2
    assert "may be raised, not lowered" in again.message


def test_kill_9_loses_nothing_and_a_second_process_is_refused(
    tmp_path: Path, tiny_preset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_csv()
    command = [str(Path(sys.executable).with_name("kbert")), "finetune", "--resume"]
    command += ["--preset", str(tiny_preset), "--data", str(data)]
    command += ["--precision", "float32"]
    command += ["--set", "train.max_steps=400", "--set", "train.eval_steps=40"]
    command += ["--epochs", "400", "--set", "train.checkpoint_steps=7"]

    def run(output: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, "--output", output],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    first = run("killed")
    wait_until(first, lambda: any(Path("killed/checkpoints").glob("step-*")))
    # Stopped, so that it is there for sure while the second one starts.
    first.send_signal(signal.SIGSTOP)
    second, whole = run("killed"), run("whole")
    _, err = second.communicate(timeout=120)
    assert second.returncode == 2
    assert f"Another process is training in killed (process {first.pid} on" in err
    first.kill()
    first.communicate()
    third = run("killed")
    _, err = third.communicate(timeout=240)
    assert third.returncode == 0, err
    assert "goes on after step" in err
    whole.communicate(timeout=240)
    assert whole.returncode == 0
    assert differences(Path("whole"), Path("killed")) == []


def wait_until(process: subprocess.Popen[str], is_true) -> None:
    end = time.monotonic() + 240
    while not is_true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)

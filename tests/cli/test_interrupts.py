"""Ctrl-C and SIGTERM: one line, the code of the signal, and a run that is intact.

In this process; a signal between commands is tried by hand.
"""

import json
import signal
from pathlib import Path

import pytest

from kbert.training.loop import Step
from kbert.workflows.reporting import RunListener
from tests.cli.conftest import Kbert, Outcome


@pytest.mark.parametrize(
    "place",
    [
        "kbert.workflows.job.encode_datasets",
        "kbert.workflows.job.build_trainee",
    ],
)
def test_before_training_nothing_is_written(
    finetune: Kbert, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    outcome = _interrupted(finetune, monkeypatch, place, signal.SIGINT)
    assert outcome.code == 130
    assert not Path("run").exists()


def test_in_the_final_evaluation_the_model_is_kept(
    finetune: Kbert, kbert: Kbert, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "kbert.plots.plot_curves"
    outcome = _interrupted(finetune, monkeypatch, place, signal.SIGINT)
    assert outcome.code == 130
    assert "run" in outcome.err.splitlines()[-1]
    assert json.loads(Path("run/kbert.json").read_text())["status"] == "interrupted"
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_in_training_the_step_is_finished_and_the_model_kept(
    finetune: Kbert,
    kbert: Kbert,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    code: int,
) -> None:
    whole = RunListener.on_step

    def receive(self: RunListener, step: Step) -> None:
        whole(self, step)
        if step.number == 2:
            signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(RunListener, "on_step", receive)
        outcome = finetune("--set", "train.max_steps=3")
    assert outcome.code == code
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    last = outcome.err.splitlines()[-1]
    assert last.startswith("Interrupted: stopped after step 2")
    assert last.endswith("is in run. Go on: kbert finetune --resume run")
    assert json.loads(Path("run/kbert.json").read_text())["status"] == "interrupted"
    answer = kbert("predict", "run", "a b")
    assert answer.code == 0
    assert json.loads(answer.out)["label"] in ("yes", "no")


def test_a_script_catches_it_as_a_keyboard_interrupt() -> None:
    from kbert.errors import Interrupted

    with pytest.raises(KeyboardInterrupt) as caught:
        raise Interrupted("stopped after step 3", signal.SIGTERM)
    assert str(caught.value) == "stopped after step 3"


def _interrupted(
    command: Kbert, monkeypatch: pytest.MonkeyPatch, place: str, number: int
) -> Outcome:
    """Runs a command that receives a signal as it reaches a function."""

    def receive(*arguments: object, **options: object) -> None:
        signal.raise_signal(number)

    with monkeypatch.context() as patch:
        patch.setattr(place, receive)
        outcome = command()
    assert "Traceback" not in outcome.err
    assert "Interrupted" in outcome.err.splitlines()[-1]
    return outcome

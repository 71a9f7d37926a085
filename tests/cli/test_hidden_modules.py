"""Packages that are not there for a while, and what Keras leaves out without them."""

import subprocess
import sys

import pytest

from kbert_cli.hidden_modules import hidden


def test_hidden_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with hidden("colorsys"), pytest.raises(ModuleNotFoundError, match="colorsys"):
        import colorsys
    import colorsys

    assert colorsys.rgb_to_hsv(1, 1, 1) == (0, 0, 1)


def test_what_is_imported_already_stays() -> None:
    import json

    with hidden("json"):
        assert sys.modules["json"] is json
    assert sys.modules["json"] is json


def test_back_after_an_error() -> None:
    with pytest.raises(KeyError), hidden("colorsys_2"):
        raise KeyError
    assert "colorsys_2" not in sys.modules


def test_a_command_starts_without_what_keras_does_not_need() -> None:
    code = """if True:
        import sys
        from kbert_cli.messages import show_messages
        show_messages()
        import kbert.workflows.finetune, kbert.workflows.pretrain
        import kbert.workflows.predictor
        print(sorted({"sklearn", "matplotlib"} & set(sys.modules)))
        import sklearn.metrics, matplotlib.figure
    """
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stdout) == (0, "[]\n"), run.stderr

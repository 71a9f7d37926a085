"""`kbert pretrain` on JAX, in a process of its own."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Kbert
from tests.pretraining_runs import options_for, write_corpus

COMMAND = "from kbert_cli.main import main; main()"


def test_tensorflow_measures_the_same(kbert: Kbert) -> None:
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    write_corpus(Path("corpus.txt"))
    settings = options_for(data__whole_word=True, train__gradient_accumulation_steps=2)
    subprocess.run(
        [
            *(sys.executable, "-c", COMMAND),
            *("pretrain", "corpus.txt", "--output", "run", *settings),
        ],
        env=os.environ
        | {
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "XDG_CACHE_HOME": "cache",
        },
        check=True,
    )
    # The next start need not compile the step again.
    assert any("train" in kept.name for kept in Path("cache/kbert/jax").iterdir())
    info = json.loads(Path("run/kbert.json").read_text())
    assert info["machine"]["backend"] == "jax"
    assert (info["status"], info["steps"]) == ("finished", 120)
    on_jax = json.loads(Path("run/metrics.json").read_text())["validation"]
    found = json.loads(kbert("evaluate", "run", "--json").out)
    assert found == pytest.approx(on_jax, abs=1e-3)
    # A model as it begins has the logarithm of the vocabulary's size, above 4.
    assert 1.0 < found["masked_lm_loss"] < 2.2


def test_a_run_of_tensorflow_goes_on_there(kbert: Kbert) -> None:
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed")
    write_corpus(Path("corpus.txt"))
    settings = options_for(train__max_steps=20, train__eval_steps=20)
    assert kbert("pretrain", "corpus.txt", "--output", "run", *settings).code == 0
    done = subprocess.run(
        [
            *(sys.executable, "-c", COMMAND),
            *("pretrain", "--resume", "run", "--max-steps", "120"),
        ],
        env=os.environ | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        check=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "goes on after step 20" in done.stderr
    assert "backend tensorflow then and jax now" in done.stderr
    info = json.loads(Path("run/kbert.json").read_text())
    assert (info["status"], info["steps"]) == ("finished", 120)
    lines = Path("run/history.jsonl").read_text().splitlines()
    losses = [json.loads(line)["validation"]["loss"] for line in lines]
    assert len(losses) == 6
    # It goes on learning where it was, and does not begin again.
    assert losses[1] < losses[0] + 0.2
    assert losses[-1] < losses[0] - 0.5

"""Every file of a preset and of a run, in place of which stands something else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from kbert.checksums import SUMS, write_sums
from tests.security.conftest import Case
from tests.security.folders import DAMAGES, WRITERS

FILES = {
    "keras_hub": (
        "config.json",
        "tokenizer.json",
        "assets/tokenizer/vocabulary.txt",
        "model.weights.h5",
    ),
    "hugging_face": (
        "config.json",
        "tokenizer_config.json",
        "vocab.txt",
        "model.safetensors",
    ),
    "run": (
        "config.toml",
        "task.json",
        "metrics.json",
        "kbert.json",
        "model/config.json",
        "model/tokenizer.json",
        "model/assets/tokenizer/vocabulary.txt",
        "model/model.weights.h5",
        "model/task.json",
        "model/task.weights.h5",
    ),
    "pretrained": ("task.json", "model/task.json", "model/task.weights.h5"),
}
CASES = [
    (kind, file, damage)
    for kind, files in FILES.items()
    for file in files
    for damage in DAMAGES
]
# Without them a folder is whole.
_OPTIONAL = {
    ("hugging_face", "tokenizer_config.json"),
    ("run", "metrics.json"),
    ("run", "kbert.json"),
}
_MAY_LOAD = {
    # An optional file that is not there, and a config without settings.
    *((*optional, "link to nothing") for optional in _OPTIONAL),
    *((*optional, "link to itself") for optional in _OPTIONAL),
    ("run", "config.toml", "empty"),
    # Half a vocabulary may still be one.
    ("run", "config.toml", "cut off"),
    *((kind, file, "cut off") for kind, files in FILES.items() for file in files
      if file.endswith(".txt")),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "file", "damage"), CASES)
def test_what_stands_in_place_of_a_file(
    case: Callable[[str], Case], kind: str, file: str, damage: str
) -> None:
    made = case(kind)
    DAMAGES[damage](made.folder / file, made.outside)
    error = made.outcome()
    if error is None:
        assert (kind, file, damage) in _MAY_LOAD
        return
    # A message names the file, or the folder that lacks it.
    named = (Path(file).name, str(Path(file).parent), made.folder.name)
    assert any(name in str(error) for name in named)
    assert len(str(error)) < 2000


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_stands_in_place_of_the_sums(
    case: Callable[[str], Case], damage: str
) -> None:
    made = case("run")
    model = made.folder / "model"
    write_sums(model)
    assert made.outcome() is None
    DAMAGES[damage](model / SUMS, made.outside)
    assert SUMS in made.refused() or "leads out" in made.refused()


def test_holes_are_not_read_through(case: Callable[[str], Case]) -> None:
    made = case("run")
    model = made.folder / "model"
    write_sums(model)
    with (model / "task.weights.h5").open("r+b") as file:
        file.truncate(2**40)
    assert "task.weights.h5 is mostly holes" in made.refused()


@pytest.mark.parametrize("kind", WRITERS)
def test_the_good_ones_load(case: Callable[[str], Case], kind: str) -> None:
    assert case(kind).outcome(ask=True) is None

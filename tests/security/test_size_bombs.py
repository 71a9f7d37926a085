"""What asks for a terabyte, in a process that has four gigabytes and thirty seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from kbert.bounded import read_json
from kbert.config import FinetuneConfig, load_config
from kbert.data.sources import open_source
from kbert.errors import RunError
from kbert.preset_files import Architecture, read_architecture
from kbert.preset_weights import check_weights
from kbert.vocabulary import read_vocabulary

MAX_BYTES = 4_000_000_000
SECONDS = 30

# Each case is read, one after the other; what comes out is printed as JSON.
_SCRIPT = """
import json, sys, time
from pathlib import Path
import keras_hub  # what it takes itself does not count
from kbert.errors import UserError
from tests.security.test_size_bombs import largest_size, use

for name in sys.argv[2:]:
    start = time.monotonic()
    try:
        use(name, Path(sys.argv[1]) / name)
        outcome = "loaded"
    except UserError as error:
        outcome = "refused"
        assert len(str(error)) < 2000, name
    peak = largest_size()
    seconds = time.monotonic() - start
    print(json.dumps({"name": name, "outcome": outcome, "peak": peak,
                      "seconds": seconds}), flush=True)
"""


def largest_size() -> int:
    """The largest resident size of this process so far, in bytes.

    Not ru_maxrss where /proc tells: a process starts with that of its parent's.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [x for x in status.read_text().splitlines() if x.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    import resource  # macOS, in bytes

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


_JSON_BOMBS = {
    # Each as large as a JSON file may be, made of what takes most memory to hold.
    "deep lists": (b"[" * 400 + b"]" * 400 + b",") * 2000,
    "empty objects": b"{}," * 1_900_000,
    "numbers": b"1e1," * 24_000_000,
    "texts": b'"ab",' * 19_000_000,
    "keys": b",".join(b'{"%d":0}' % n for n in range(1_900_000)) + b",",
}
QUICK = (
    "json deep lists",
    "json empty objects",
    "json of a gigabyte",
    "vocabulary of a hundred million lines",
    "vocabulary of one line of a gigabyte",
    "csv without an end",
    "jsonl of one object",
    "config of a gigabyte",
    "model of nine billion weights",
    "model of a billion layers",
)
# Those that take most memory before they are through: seconds each.
SLOW = ("json numbers", "json texts", "json keys", "csv of one row")


def _sparse(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)
    return path


def use(name: str, folder: Path) -> None:
    """Makes a case in a folder and reads it, as a command would."""
    folder.mkdir(parents=True)
    file = folder / "file"
    if name == "json of a gigabyte":
        read_json(_sparse(file, 10**9), RunError)
    elif name.startswith("json "):
        bomb = _JSON_BOMBS[name.removeprefix("json ")]
        file.write_bytes(b'{"a": [' + bomb + b"0]}")
        read_json(file, RunError)
    elif name == "vocabulary of a hundred million lines":
        file.write_bytes(b"\n" * 10**8)
        read_vocabulary(file)
    elif name == "vocabulary of one line of a gigabyte":
        read_vocabulary(_sparse(file, 10**9))
    elif name == "config of a gigabyte":
        load_config(FinetuneConfig, file=_sparse(file, 10**9))
    elif name.startswith("model"):
        numbers = {
            "vocabulary_size": 8, "num_heads": 1, "hidden_dim": 1,
            "intermediate_dim": 1, "num_layers": 6 * 10**8,
        }  # fmt: skip
        if "weights" in name:
            numbers |= {"hidden_dim": 30_000, "num_layers": 1}
        config = {"class_name": "BertBackbone", "config": numbers}
        (folder / "config.json").write_text(json.dumps(config))
        _, architecture = read_architecture(folder)
        _check_no_weights(folder, architecture)
    else:
        _read_table(name, file)


def _check_no_weights(folder: Path, architecture: Architecture) -> None:
    with h5py.File(folder / "model.weights.h5", "w") as weights:
        weights["layers/other/vars/0"] = np.zeros((8, 8), "float32")
    check_weights(folder, "keras_hub", architecture)


def _read_table(name: str, file: Path) -> None:
    ending, _, what = name.partition(" ")
    file = file.with_suffix(f".{ending}")
    if what == "without an end":
        file.write_bytes(b"text,label\n")
        _sparse_after(file, 10**11)
    elif ending == "csv":
        file.write_bytes(b"text,label\n" + b"ab," * 22_000_000)
    else:
        file.write_bytes(b'{"text": [' + b'"ab",' * 12_000_000 + b"0]}")
    for chunk in open_source(str(file)).chunks():
        assert len(chunk)


def _sparse_after(file: Path, size: int) -> None:
    with file.open("ab") as appended:
        appended.truncate(size)


def _outcomes(cases: tuple[str, ...], folder: Path) -> dict[str, dict]:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(folder), *cases],
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=SECONDS * len(cases),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["name"] for line in lines] == list(cases)
    return {line["name"]: line for line in lines}


def _check(found: dict) -> None:
    assert found["peak"] < MAX_BYTES
    assert found["seconds"] < SECONDS
    may_load = found["name"].removeprefix("json ") in _JSON_BOMBS
    assert found["outcome"] == "refused" or may_load


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    return _outcomes(QUICK, tmp_path_factory.mktemp("bombs"))


@pytest.mark.parametrize("name", QUICK)
def test_memory_and_time_are_bounded(outcomes: dict[str, dict], name: str) -> None:
    _check(outcomes[name])


@pytest.mark.slow
def test_what_takes_most_memory(tmp_path: Path) -> None:
    for found in _outcomes(SLOW, tmp_path).values():
        _check(found)

"""What several test modules share."""

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# What a shell starts in the background ignores SIGINT, and so would each process that a
# test starts, those included that it interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(config: pytest.Config, val: object) -> str | None:
    """Names bytes by their number: gzip's hold the time of day.

    The processes that share the tests out have to agree on every name.
    """
    return f"{len(val)} bytes" if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with the real IMDB and the real preset; skips where it is absent."""
    folder = Path(os.environ.get("KBERT_SHARED", ROOT.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data: {folder} does not exist (set KBERT_SHARED)")
    return folder

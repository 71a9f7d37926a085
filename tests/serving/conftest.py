"""What the tests of serving share."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def quick_collections() -> Iterator[None]:
    """Unloading a model collects garbage: what tests have imported is passed over."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()

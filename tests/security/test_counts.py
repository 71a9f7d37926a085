"""Proof that there are as many hostile cases as were asked for."""

from tests.security import (
    test_damaged_files,
    test_hostile_data,
    test_hostile_exports,
    test_hostile_json,
    test_hostile_shards,
    test_hostile_weights,
)


def test_there_are_at_least_two_hundred_cases() -> None:
    cases = {
        "files": len(test_damaged_files.CASES),
        "JSON": test_hostile_json.NUM_CASES,
        "weights": test_hostile_weights.NUM_CASES,
        "data": test_hostile_data.NUM_CASES,
        "exports": test_hostile_exports.NUM_CASES,
        "shards": test_hostile_shards.NUM_CASES,
    }
    assert sum(cases.values()) >= 200, cases
    assert min(cases.values()) >= 20, cases

"""The audit of the dependencies tells what a service found from what it never knew."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(name: str, *ids: str) -> dict[str, Any]:
    vulns = [{"id": i, "aliases": [f"CVE-{i}"], "fix_versions": ["2"]} for i in ids]
    return {"name": name, "version": "1", "vulns": vulns}


def test_what_is_found_is_told(audit: ModuleType) -> None:
    report = {
        "dependencies": [package("a", "X-1"), package("b"), package("jinja2", "Y")]
    }
    assert audit.judge(report) == (["a 1: X-1, mended in 2"], "")


@pytest.mark.parametrize(
    "canary", [{"name": "jinja2", "skip_reason": "not found"}, package("jinja2")]
)
def test_nothing_found_by_one_who_knows_nothing(
    audit: ModuleType, canary: dict[str, Any]
) -> None:
    unknown = {"name": "a", "skip_reason": "not found"}
    found, reason = audit.judge({"dependencies": [unknown, package("b"), canary]})
    assert found == []
    assert "jinja2 2.10, and 1 of 2 packages" in reason


def test_what_does_not_concern_kbert(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "IGNORED", {"CVE-X-1": "no such call"})
    assert audit.vulnerabilities([package("a", "X-1", "X-2")]) == [
        "a 1: X-2, mended in 2"
    ]


def test_broken_versions_and_those_that_are_not_pinned(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    pins = audit.read_pins()
    assert pins["tensorflow-text"] == "2.21.1"
    wrong = {"tensorflow-text": "2.21.0", "numpy": "1.0", "no-such-package": "1"}
    first, second, *others = audit.offline_problems(wrong)
    assert first.startswith("tensorflow-text 2.21.0 is pinned: ")
    found = {line for line in (second, *others) if "1.0 is pinned" in line}
    assert any(line.startswith("numpy ") for line in found)

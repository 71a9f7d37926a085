"""The project's metadata, its pinned versions and its licence agree."""

import hashlib
import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import kbert

ROOT = Path(__file__).resolve().parents[1]
# Of https://www.apache.org/licenses/LICENSE-2.0.txt
APACHE_2_SHA256 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def read_project() -> dict[str, Any]:
    content = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return dict(content["project"])


def read_constraints() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return [Requirement(line) for line in lines if line and line[0] != "#"]


def direct_requirements() -> list[Requirement]:
    project = read_project()
    lines = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        lines += extra
    requirements = [Requirement(line) for line in lines]
    return [item for item in requirements if item.name != project["name"]]


PINNED = {canonicalize_name(pin.name): pin for pin in read_constraints()}


def test_installed_version_is_that_of_the_package():
    installed = importlib.metadata.version("kbert")
    assert installed == kbert.__version__, "reinstall: pip install -e '.[dev]'"


def test_every_constraint_is_one_exact_version():
    wrong = [
        str(pin)
        for pin in read_constraints()
        if [item.operator for item in pin.specifier] != ["=="] or "*" in str(pin)
    ]
    assert wrong == []
    names = [canonicalize_name(pin.name) for pin in read_constraints()]
    assert len(names) > 50
    assert sorted(set(names)) == names, "one line a package, in alphabetical order"


@pytest.mark.parametrize("requirement", direct_requirements(), ids=str)
def test_direct_dependency_is_pinned_within_its_range(requirement: Requirement):
    pin = PINNED.get(canonicalize_name(requirement.name))
    assert pin is not None, f"constraints.txt lacks {requirement.name}"
    (version,) = (item.version for item in pin.specifier)
    assert requirement.specifier.contains(version), f"{pin} is outside {requirement}"


@pytest.mark.parametrize("version", ["2.20.0", "2.21.0"])
def test_broken_tensorflow_text_is_refused(version: str):
    ranges = {item.name: item.specifier for item in direct_requirements()}
    assert Version(version) not in ranges["tensorflow-text"]
    assert Version(version) not in PINNED["tensorflow-text"].specifier
    assert Version("2.21.1") in ranges["tensorflow-text"]


def test_gpu_extra_is_the_same_tensorflow_with_cuda():
    (gpu,) = (
        Requirement(line) for line in read_project()["optional-dependencies"]["gpu"]
    )
    (plain,) = (
        item
        for item in map(Requirement, read_project()["dependencies"])
        if item.name == "tensorflow"
    )
    assert (gpu.name, gpu.extras) == ("tensorflow", {"and-cuda"})
    assert gpu.specifier == plain.specifier


def test_classifiers_name_the_python_versions_that_are_allowed():
    project = read_project()
    allowed = SpecifierSet(project["requires-python"])
    prefix = "Programming Language :: Python :: "
    named = {
        item.removeprefix(prefix)
        for item in project["classifiers"]
        if re.fullmatch(re.escape(prefix) + r"3\.\d+", item)
    }
    assert named == {f"3.{minor}" for minor in range(30) if f"3.{minor}.0" in allowed}


def test_licence_is_the_full_apache_2_text():
    assert read_project()["license"] == "Apache-2.0"
    content = (ROOT / "LICENSE").read_bytes()
    assert hashlib.sha256(content).hexdigest() == APACHE_2_SHA256


def test_both_packages_are_marked_as_typed():
    for package in ("kbert", "cli/kbert_cli"):
        assert (ROOT / package / "py.typed").is_file(), package

"""Audit the pinned dependencies: `python .ci/audit.py`, in the tests' environment.

Three parts. What needs no network: the environment holds together (`pip check`), it
holds the versions of constraints.txt, and none of these is known here to be broken.
What needs one: `pip-audit` asks a vulnerability service about every pinned version.
Where none answers, or one that does not know a version which is known to be vulnerable,
as behind a mirror of the package index alone, that part says so and is skipped; a
vulnerability that it finds fails the run.

Run from the root of the tree; takes 30 s at most.
"""

import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

CONSTRAINTS = Path("constraints.txt")
SERVICES = {"pypi": 18, "osv": 8}
"""Service -> the seconds that it may take for all packages."""
# Known to be vulnerable. A mirror of the index may say that it knows no package at all,
# which pip-audit counts as nothing found: only who knows this one has been asked.
CANARY = ("jinja2", "2.10")

# (package, version): why it must not come back.
BROKEN = {
    ("tensorflow-text", "2.20.0"): "its op libraries do not load",
    ("tensorflow-text", "2.21.0"): "its op libraries do not load",
}
# Vulnerability -> why it does not concern kbert. Each is looked at again at a release.
IGNORED: dict[str, str] = {}


def read_pins() -> dict[str, str]:
    """Name -> version of every line of constraints.txt."""
    lines = CONSTRAINTS.read_text("utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins}


def offline_problems(pins: dict[str, str]) -> list[str]:
    """What is wrong with the versions, a line each; asks nobody."""
    found = [
        f"{name} {version} is pinned: {BROKEN[name, version]}"
        for name, version in pins.items()
        if (name, version) in BROKEN
    ]
    for name, version in pins.items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another system, or of an extra that is not installed
        if installed != version:
            found.append(f"{name} {installed} is installed, {version} is pinned")
    check = subprocess.run(
        [sys.executable, "-m", "pip", "check"], capture_output=True, text=True
    )
    if check.returncode:
        found += check.stdout.strip().splitlines()
    return found


def ask(service: str) -> tuple[list[str], str]:
    """Vulnerabilities of the pinned versions, or why there is no answer.

    Returns:
        A line a vulnerability; and a reason, empty where the service answered.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        pins = Path(folder, "pins.txt")
        pins.write_text(f"{CONSTRAINTS.read_text('utf-8')}{'=='.join(CANARY)}\n")
        command = [
            *(sys.executable, "-m", "pip_audit", "--vulnerability-service", service),
            *("--requirement", str(pins), "--no-deps", "--disable-pip"),
            *("--format", "json", "--output", str(report)),
            *("--progress-spinner", "off", "--timeout", "5"),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=SERVICES[service]
            )
        except subprocess.TimeoutExpired:
            return [], f"no answer within {SERVICES[service]} s"
        if not report.is_file():
            lines = done.stderr.strip().splitlines() or ["no report"]
            return [], lines[-1][:200]
        return judge(json.loads(report.read_text("utf-8")))


def judge(report: dict) -> tuple[list[str], str]:
    """What a report of pip-audit tells; as `ask`."""
    packages = {package["name"]: package for package in report["dependencies"]}
    canary = packages.pop(CANARY[0], {})
    unknown = [name for name in packages if "skip_reason" in packages[name]]
    if not canary.get("vulns"):
        return [], (
            f"it knows no vulnerability of {' '.join(CANARY)}, and {len(unknown)} of "
            f"{len(packages)} packages not at all"
        )
    if unknown:
        print(f"not known to the service: {', '.join(sorted(unknown))}")
    return vulnerabilities(packages.values()), ""


def vulnerabilities(packages: Iterable[dict]) -> list[str]:
    """Those of packages in a report of pip-audit that are not ignored."""
    return [
        f"{package['name']} {package['version']}: {found['id']}, mended in "
        f"{', '.join(found['fix_versions']) or 'no version yet'}"
        for package in packages
        for found in package.get("vulns", [])
        if not {found["id"], *found.get("aliases", [])} & IGNORED.keys()
    ]


def main() -> None:
    pins = read_pins()
    problems = offline_problems(pins)
    print(f"{len(pins)} pins: {len(problems)} problems that need no network to see")
    for service in SERVICES:
        found, reason = ask(service)
        if not reason:
            print(f"pip-audit, {service}: {len(found)} known vulnerabilities")
            problems += found
            break
        print(f"pip-audit, {service}: skipped, {reason}")
    for problem in problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()

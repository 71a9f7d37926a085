"""Check what a wheel of kbert holds: `python .ci/check_wheel.py FILE.whl`.

It must hold every file of the two packages, nothing else but its metadata, and stay
under 5 MB. Run from the root of the tree.
"""

import sys
import zipfile
from pathlib import Path

MAX_BYTES = 5_000_000
PACKAGES = (Path("kbert"), Path("cli/kbert_cli"))


def expected_files() -> set[str]:
    """Names in the wheel of all files of the packages in the tree."""
    return {
        path.relative_to(package.parent).as_posix()
        for package in PACKAGES
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def problems(wheel: Path) -> list[str]:
    """What is wrong with the wheel, a line each."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    metadata = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    expected = expected_files()
    found = [f"missing: {name}" for name in sorted(expected - names)]
    found += [f"too much: {name}" for name in sorted(names - metadata - expected)]
    if not any(name.endswith("/licenses/LICENSE") for name in metadata):
        found.append("missing: the licence")
    if wheel.stat().st_size >= MAX_BYTES:
        found.append(f"{wheel.stat().st_size} bytes, the limit is {MAX_BYTES}")
    print(f"{wheel.name}: {len(names)} files, {wheel.stat().st_size / 1e6:.2f} MB")
    return found


if __name__ == "__main__":
    sys.exit("\n".join(problems(Path(sys.argv[1]))) or None)

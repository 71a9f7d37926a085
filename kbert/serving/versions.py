"""Which versions of a model lie on disk, and which of them are to be served.

file_system_storage_path_source.cc of TensorFlow Serving.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbert.exporting.versions import version_number


@dataclass(frozen=True)
class Look:
    """What a look at a model's base path gave.

    Attributes:
        wanted: path by number of the versions to serve; None where none of them is
            there, so that what is served stays (as with TensorFlow Serving's
            --servable_versions_always_present).
        complaints: what a person should know.
    """

    wanted: dict[int, Path] | None
    complaints: tuple[str, ...] = ()


def look(model: Any) -> Look:
    """Which versions a ModelConfig asks for, as its folder is now.

    What cannot be read is a complaint, and no error.
    """
    base_path, policy = Path(model.base_path), model.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "specific" and not policy.specific.versions:
        return Look({}, ("The policy `specific` names no versions: none is served",))
    try:
        present, complaints = find_versions(base_path)
    except (OSError, ValueError) as error:
        return Look(None, (f"Cannot look for versions in {base_path}: {error}",))
    if not present:
        return Look(None, (f"No versions in {base_path}", *complaints))
    if kind == "specific":
        versions = sorted(set(policy.specific.versions))
        missing = [version for version in versions if version not in present]
        complaints += [f"Version {v} is not in {base_path}" for v in missing]
    elif kind == "all":
        versions = sorted(present)
    else:
        versions = sorted(present)[-max(policy.latest.num_versions, 1) :]
    wanted = {v: present[v] for v in versions if v in present}
    return Look(wanted or None, tuple(complaints))


def find_versions(base_path: Path) -> tuple[dict[int, Path], list[str]]:
    """The versions under a base path: whatever has a number for its name.

    Names such as `.export-7`, `v1`, `1.0` and `1_tmp` are none. Of names that are the
    same number (1 and 001) the shortest counts.

    Returns:
        Path by number, and a complaint for each name that does not count.

    Raises:
        OSError: there is no such folder, or it cannot be read.
    """
    found: dict[int, Path] = {}
    complaints = []
    for name in sorted(os.listdir(base_path), key=lambda name: (len(name), name)):
        version = version_number(name)
        if version is None:
            continue
        path = base_path / name
        if version in found:
            complaints.append(f"{path} is ignored for {found[version]}: one version")
        else:
            found[version] = path
    return found, complaints

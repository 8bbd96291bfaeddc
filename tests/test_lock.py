"""The lock names every dependency that pyproject.toml does, in a version that it admits."""

import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [
    requirement
    for texts in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in texts
    if (requirement := Requirement(text)).name != "tpo-graph"
]


def test_the_lock_names_every_direct_dependency_in_an_admitted_version():
    text = (ROOT / "requirements" / "lock.txt").read_text()
    lines = [Requirement(line) for line in text.splitlines() if not line.startswith("#")]
    locked: dict[str, list[str]] = {}
    for line in lines:
        (pinned,) = line.specifier
        assert pinned.operator == "=="
        locked.setdefault(line.name, []).append(pinned.version)
    for requirement in DIRECT:
        versions = locked[requirement.name.lower().replace("_", "-")]
        assert all(requirement.specifier.contains(version) for version in versions), requirement
    assert locked["torch"] == ["2.13.0"]  # its CPU build; see requirements/lock.py


def test_every_dependency_has_a_lowest_version():
    script = ROOT / "requirements" / "lowest.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    lowest = dict(line.split("==") for line in done.stdout.splitlines())
    assert set(lowest) == {requirement.name.lower() for requirement in DIRECT}
    for requirement in DIRECT:
        assert requirement.specifier.contains(lowest[requirement.name.lower()])

"""Write requirements/lock.txt: the exact versions that `make demo` and `make test` install.

    python requirements/lock.py PYTHON...

Each PYTHON resolves the project with all extras anew, in an environment of its own; where they
disagree, markers say which Python takes which version. Nothing is installed.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "lock.txt"
TORCH = "torch==2.13.0"
"""Its CPU build needs none of CUDA's packages; any newer one brings gigabytes of them."""
EXTRAS = "dev,test-slow"
HEADER = """\
# Made by `make lock` from pyproject.toml; do not edit. Constraints for pip: what is not
# needed is not installed.
"""


def resolved(python: str) -> tuple[tuple[int, int], dict[str, str]]:
    """The Python's version, and name -> version of all that the project would bring there."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        inside = f"{folder}/bin/python"
        pip = [inside, "-m", "pip", "--quiet"]
        subprocess.run([*pip, "install", "--upgrade", "pip"], check=True)
        constraint, report = Path(folder, "torch.txt"), Path(folder, "report.json")
        constraint.write_text(TORCH)
        command = [*pip, "install", "--dry-run", "--ignore-installed", "--report", str(report)]
        subprocess.run(
            [*command, "--constraint", str(constraint), "pip", f"{ROOT}[{EXTRAS}]"], check=True
        )
        say = "import sys; print(*sys.version_info[:2])"
        said = subprocess.run([inside, "-c", say], check=True, capture_output=True, text=True)
        major, minor = map(int, said.stdout.split())
        found = json.loads(report.read_text())["install"]
    packages = {
        item["metadata"]["name"].lower().replace("_", "-").replace(".", "-"): (
            item["metadata"]["version"].split("+")[0]  # "+cpu" is not what an index calls it
        )
        for item in found
    }
    packages.pop("tpo-graph", None)
    return (major, minor), packages


def lines(found: dict[tuple[int, int], dict[str, str]]) -> list[str]:
    """One line per package, or one per range of Pythons that take the same version."""
    pythons = sorted(found)
    written: list[str] = []
    for name in sorted({name for packages in found.values() for name in packages}):
        versions = [found[python].get(name) for python in pythons]
        groups: list[tuple[int, int, str | None]] = []
        for place, version in enumerate(versions):
            if groups and groups[-1][2] == version:
                groups[-1] = (groups[-1][0], place, version)
            else:
                groups.append((place, place, version))
        for first, last, version in groups:
            if version is None:
                continue
            marks = []
            if first > 0:
                marks.append('python_version >= "{}.{}"'.format(*pythons[first]))
            if last < len(pythons) - 1:
                marks.append('python_version < "{}.{}"'.format(*pythons[last + 1]))
            written.append(f"{name}=={version}" + (f" ; {' and '.join(marks)}" if marks else ""))
    return written


def main() -> None:
    """Resolve for every Python that is named, and write the file."""
    found = dict(resolved(python) for python in sys.argv[1:] or [sys.executable])
    names = ", ".join(f"{major}.{minor}" for major, minor in sorted(found))
    LOCK.write_text("\n".join([f"{HEADER}# Resolved on Python {names}.", *lines(found)]) + "\n")
    print(f"{LOCK.relative_to(ROOT)}: {len(lines(found))} lines for Python {names}")


if __name__ == "__main__":
    main()

"""Print the lowest version that pyproject.toml admits of every direct dependency."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """One `name==version` per line; a dependency without a lower bound is an error."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    given = [*project["dependencies"], *(each for extra in extras.values() for each in extra)]
    lowest: dict[str, str] = {}
    for requirement in given:
        name = re.split(r"[\[><=~! ;]", requirement, maxsplit=1)[0].lower()
        if name == project["name"]:
            continue
        bound = re.search(r">=\s*([\w.]+)", requirement)
        if bound is None:
            raise SystemExit(f"{requirement!r} in pyproject.toml has no lower bound (>=)")
        lowest.setdefault(name, bound[1])
    print("\n".join(f"{name}=={version}" for name, version in sorted(lowest.items())))


if __name__ == "__main__":
    main()

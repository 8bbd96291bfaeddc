"""Paths in a configuration file are relative to that file, not to where the command was started."""

from pathlib import Path

_SCHEMES = ("local:", "judge:", "ensemble:", "length-penalty:")


def anchored(value: str, folder: Path) -> str:
    """The value with a leading "./" or "../" made relative to `folder`, also after a scheme.

    Args:
        value: a path or a model's name such as "local:../models/reward"; others stay as they are.
        folder: where the file stands that the value was read from.
    """
    scheme = next((scheme for scheme in _SCHEMES if value.startswith(scheme)), "")
    path = value.removeprefix(scheme)
    if not path.startswith(("./", "../")):
        return value
    return scheme + str((folder / path).resolve())

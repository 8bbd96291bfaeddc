"""Paths in a configuration file are relative to that file, not to where the command was started."""

import re
import shlex
from pathlib import Path

from tpo_graph.rewards.forms import FORMS

_IN_OPTION = re.compile(r"([?&](?:rubric|tokenizer)=)(\.\.?/[^#&]*)")


def anchored(value: str, folder: Path) -> str:
    """The value with a leading "./" or "../" made relative to `folder`, also after a scheme.

    Args:
        value: a path or a model's name such as "local:../models/reward" or "command:./score.sh -v";
            others stay as they are.
        folder: where the file stands that the value was read from.
    """
    scheme, colon, path = value.partition(":")
    if colon and scheme in FORMS:
        value = _IN_OPTION.sub(lambda found: found[1] + str((folder / found[2]).resolve()), value)
        path = value.partition(":")[2]
    if not colon or scheme not in FORMS or not FORMS[scheme].path:
        scheme, path = "", value
    if not path.startswith(("./", "../")):
        return value
    before = f"{scheme}:" if scheme else ""
    if scheme == "command":
        program, space, arguments = path.partition(" ")
        return before + shlex.quote(str((folder / program).resolve())) + space + arguments
    return before + str((folder / path).resolve())

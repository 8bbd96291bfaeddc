"""How reward models are named: SCHEME:SOURCE, each kind's form, and what loading one touches."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from tpo_graph.errors import nearest

Touch = Literal["files", "network", "code"]
"""What naming a reward model gives access to: files of this machine, addresses on the network, or
code that is run."""


class Form(NamedTuple):
    """One kind of reward model."""

    write: str
    """How it is written, after the scheme."""
    touches: frozenset[Touch]
    path: bool
    """Whether the source begins with a path, which is relative to the file that names it."""


def _form(write: str, *touches: Touch, path: bool = True) -> Form:
    return Form(write, frozenset(touches), path)


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "local": _form("PATH_OR_HUB_ID", "files", "network"),
        "vllm": _form("URL#MODEL", "files", "network", path=False),
        "sglang": _form("URL#MODEL", "files", "network", path=False),
        "judge": _form("PROVIDER:MODEL", "files", "network"),
        "python": _form("FILE.py#NAME", "files", "code"),
        "command": _form("PROGRAM ARGUMENTS", "files", "code"),
        "tests": _form("FILE.py", "files", "code"),
        "json-schema": _form("FILE.json", "files"),
        "regex": _form("FILE.toml", "files"),
        "self-consistency": _form("", path=False),
        "ensemble": _form("FILE.toml", "files", "network", "code"),
        "length-penalty": _form("FILE.toml", "files", "network", "code"),
    }
)
"""By scheme. What an ensemble touches is what its members do: anything."""


def touches(name: str) -> frozenset[Touch]:
    """What loading the reward model of that name, or asking it, may touch on this machine.

    A name of no known kind touches nothing: it is refused.
    """
    form = FORMS.get(name.partition(":")[0])
    return frozenset() if form is None else form.touches


def written() -> str:
    """All forms, for help and errors."""
    return ", ".join(f"{s}:{f.write}" if f.write else s for s, f in FORMS.items())


def meant(name: str) -> str | None:
    """The name that was probably meant by one of no known kind: a chat model or a hub id."""
    scheme, colon, rest = name.partition(":")
    if colon and rest and "/" not in scheme and scheme.replace("_", "").isalnum():
        close = nearest(scheme, [*FORMS, *_PROVIDERS], cutoff=0.75)
        return f"judge:{close}:{rest}" if close in _PROVIDERS else close and f"{close}:{rest}"
    if not colon and name.count("/") == 1 and not name.startswith(("/", ".", "~")):
        return f"local:{name}"
    if not colon and name.endswith(".py"):
        return f"python:{name}"
    return None


def anchored(value: str, folder: Path) -> str:
    """A path or a model's name of a configuration file, with a leading "./" or "../" made relative
    to the file's folder, also after a scheme; others stay as they are."""
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


_IN_OPTION = re.compile(r"([?&](?:rubric|tokenizer)=)(\.\.?/[^#&]*)")

_PROVIDERS = [
    "openai",
    "azure_openai",
    "anthropic",
    "google_genai",
    "google_vertexai",
    "bedrock",
    "bedrock_converse",
    "cohere",
    "deepseek",
    "fireworks",
    "groq",
    "huggingface",
    "mistralai",
    "ollama",
    "openrouter",
    "perplexity",
    "together",
    "xai",
]
"""Of LangChain's chat models."""

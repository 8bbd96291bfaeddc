"""Every error tpo_graph raises on purpose, named after the boundary that failed.

    TPOError
    ├── ConfigurationError      an option, a model name or a file is wrong; nothing was run
    │   └── PromptError         a prompt set is missing, malformed or uses a variable it must not
    ├── PolicyError             the policy or the critic failed or never gave a usable reply
    ├── RewardError             the reward model failed, or gave no finite number
    │   └── RewardInputError    this text cannot be scored (too long, no chat template, ...)
    ├── ServerAwayError         a model server was unavailable for longer than the allowed wait
    └── StoreError              the database failed; what was committed before is intact
        ├── RunNotFoundError    no run with that id is stored
        ├── RunExistsError      a run with that id is already stored
        ├── RunBusyError        another process holds the run
        └── DatabaseVersionError  the database was written by a newer tpo_graph

Each message shows the offending value with ``repr`` and how to fix it; the cause is kept in
``__cause__``. Errors of LangGraph itself (recursion limit, interrupts) pass through untouched.
"""

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from tpo_graph.redaction import redacted

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError


class TPOError(Exception):
    """Base of every error tpo_graph raises on purpose."""


class ConfigurationError(TPOError, ValueError):
    """An option, a model name or a file is wrong. Nothing was run."""


class PromptError(ConfigurationError):
    """A prompt set is missing, malformed, or uses a variable it must not use."""


class PolicyError(TPOError):
    """The policy (or the critic) failed, or never gave a usable reply."""


class RewardError(TPOError):
    """The reward model failed, or did not return one finite number per response."""


class RewardInputError(RewardError, ValueError):
    """A text that this reward model cannot score: too long, or impossible to template."""


class ServerAwayError(TPOError):
    """A model server was unavailable for longer than the allowed wait; resume to continue."""


class StoreError(TPOError):
    """The database failed. Rows committed before the failure are intact."""


class RunNotFoundError(StoreError, LookupError):
    """No run with that id is stored in this database."""


class RunExistsError(StoreError):
    """A run with that id is already stored, so no new run can use it."""


class RunBusyError(StoreError):
    """Another live process is working on this run."""


class DatabaseVersionError(StoreError):
    """The database was written by a newer version of tpo_graph."""


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def error_line(error: BaseException) -> str:
    """An error in one line of at most 500 characters, redacted, as rows of a database keep it."""
    return redacted(f"{type(error).__name__}: {error}".partition("\n")[0])[:500]


def nearest(name: str, known: Collection[str], *, cutoff: float = 0.6) -> str | None:
    """The known name that a wrong one was probably meant to be; None if none is like it."""
    return next(iter(get_close_matches(name, known, n=1, cutoff=cutoff)), None)


def instead(name: str, known: Collection[str]) -> str:
    """What an error says after a wrong name: the one that was meant, or all there are."""
    for part in ("tpo_cache", "cache"):
        if name == "database" and part in known:  # `optimize` has one
            return f"a database goes in by its parts: {part}=store.cache, from open_store(URL)"
    close = nearest(name, known)
    return f"there are {', '.join(known)}" if close is None else f"did you mean {close!r}?"


def refuse_unknown(given: Collection[str], known: Collection[str]) -> None:
    """Refuse names of settings that do not exist.

    Args:
        given: the names.
        known: all valid names, including arguments of the function.

    Raises:
        ConfigurationError: a name is unknown; suggests the one that was probably meant.
    """
    if wrong := [name for name in given if name not in known]:
        told = (f"there is no setting {name!r}; {instead(name, sorted(known))}" for name in wrong)
        raise ConfigurationError("; ".join(told))


def invalid_settings(
    error: "ValidationError", model: "type[BaseModel]", others: Collection[str] = ()
) -> ConfigurationError:
    """One clear error from pydantic's: each wrong setting with its value and what it must be.

    Args:
        error: what pydantic raised.
        model: whose fields are the settings there are.
        others: names beside these that could have been meant.
    """
    problems: list[str] = []
    for problem in error.errors(include_url=False):
        name = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            known = sorted({*model.model_fields, *others})
            problems.append(f"there is no setting {name!r}; {instead(name, known)}")
        elif problem["type"] == "missing":
            problems.append(f"{name} is missing: give it a value")
        else:
            # Options of a connection may hold a key, wherever in a text that is not even JSON.
            secret = name.endswith(("_options", "api_key"))
            value = problem["input"]
            if problem["type"] in _OUT_OF_BOUNDS and isinstance(value, str):
                value = _Number(value.strip())
            shown = "" if secret else f"={value!r:.200}"
            why = _requirement(problem["type"], problem.get("ctx", {}), problem["msg"])
            problems.append(f"{name}{shown} is not valid: {why}")
    return ConfigurationError("; ".join(problems))


class _Number(str):
    """A number as somebody wrote it, on a command line or in the environment."""

    def __repr__(self) -> str:
        return str(self)


_OUT_OF_BOUNDS = {
    "greater_than_equal": "it must be at least {ge}",
    "greater_than": "it must be above {gt}",
    "less_than_equal": "it must be at most {le}",
    "less_than": "it must be below {lt}",
    "finite_number": "it must be a finite number",
}
_REQUIREMENTS = {
    **_OUT_OF_BOUNDS,
    "string_too_short": "it is too short (at least {min_length})",
    "too_short": "it is too short (at least {min_length})",
    "string_too_long": "it must have at most {max_length} characters",
    "literal_error": "it must be {expected}",
}
"""By pydantic's types of errors, with the values that come with them."""
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "a text",
    "dict": "a table of names and values",
    "mapping": "a table of names and values",
    "list": "a list",
    "tuple": "a list",
}
"""By how pydantic's types of errors begin."""


def _requirement(kind: str, bounds: Mapping[str, Any], said: str) -> str:
    """What a value must be, in words that fit Python, a command and a file."""
    if kind in _REQUIREMENTS:
        return _REQUIREMENTS[kind].format_map(bounds)
    word, _, how = kind.partition("_")
    if word in _KINDS and how in ("type", "parsing", "from_float"):
        return f"it must be {_KINDS[word]}"
    return "it has too many digits" if how == "parsing_size" else said.removeprefix("Value error, ")

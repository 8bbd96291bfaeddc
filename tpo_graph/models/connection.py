"""How a role's server is reached: address, key, headers, timeouts, and keys as people paste them.

The options of a role travel with its model's name, as a `Connected` name, and nowhere else: what is
stored or shown of them goes through `redacted`.
"""

import json
import os
import unicodedata
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from tpo_graph.errors import ConfigurationError
from tpo_graph.redaction import AMBIGUOUS, HIDDEN, has_hidden, is_ambiguous, redacted

T = TypeVar("T")

ROLES = ("model", "critic", "reward_model", "audit")
"""What has options of its own, given as `<role>_options`."""

_OF_A_RUN = ("temperature", "top_p", "max_tokens", "max_completion_tokens", "seed", "n")

_AROUND = " \t\r\n\v\f\0\ufeff\u200b\u00a0'\"`“”‘’„«»"
"""What comes along when a key is copied or read from a file, and is part of no key."""


def clean_key(key: str, what: str) -> str:
    """An API key without the line ends, blanks and quotes around it.

    Args:
        what: what to call it in the error, such as "OPENAI_API_KEY".

    Raises:
        ConfigurationError: it holds a character that no HTTP header can carry.
    """
    cleaned = key.strip(_AROUND)
    for position, character in enumerate(cleaned, 1):
        if not "\x20" <= character <= "\x7e":
            named = unicodedata.name(character, f"U+{ord(character):04X}")
            raise ConfigurationError(
                f"the API key in {what} holds a character that no key has: {named}, at position "
                f"{position} of {len(cleaned)}. Copy the key again."
            )
    return cleaned


class Connected(str):
    """A model's name that knows how its server is reached; everywhere else it is just the name."""

    options: Mapping[str, Any]

    def __new__(cls, name: str, options: Mapping[str, Any]) -> "Connected":
        """The name with options; those it has already are replaced."""
        made = super().__new__(cls, name)
        made.options = dict(options)
        return made

    def __reduce__(self) -> tuple[type["Connected"], tuple[str, Mapping[str, Any]]]:
        return Connected, (str(self), self.options)


def connected(given: T, options: object, role: str) -> T:
    """What was given for a role, with its `<role>_options`.

    Raises:
        ConfigurationError: the options are no mapping, are not for a connection, or what was given
            is no name.
    """
    if options is None:
        return given
    name = f"{role}_options"
    if not isinstance(options, Mapping):
        raise ConfigurationError(
            f'{name} must be a mapping such as {{"base_url": "http://HOST:PORT/v1"}}, not '
            f"{redacted(options)!r}"
        )
    values = {str(key): each for key, each in cast("Mapping[object, object]", options).items()}
    if not isinstance(given, str):
        what = "no model" if given is None else f"a {type(given).__name__}"
        raise ConfigurationError(
            f"{name} is for a {role} that is given by its name, and {what} is given as {role}: "
            f"name one, or give the options to the object itself."
        )
    if wrong := sorted(values.keys() & set(_OF_A_RUN)):
        raise ConfigurationError(
            f"{wrong!r} in {name} would be replaced by the run's own settings: give them as "
            f"{', '.join(each + '=' for each in wrong)} (critic_... for the critic) instead."
        )
    return cast(T, Connected(given, values))


def read_options(text: object) -> Any:
    """Options as the command line and the environment write them, a JSON object.

    Raises:
        ValueError: it is not JSON; the text is not shown, a key may stand in it.
    """
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except ValueError:
        raise ValueError('options are a JSON object, such as {"timeout": 600}') from None


def options_of(name: str) -> dict[str, Any]:
    """The options of a name, ready to use; a plain name has none.

    Raises:
        ConfigurationError: `api_key_env` names a variable that is not set, or the key or the
            address is unusable.
    """
    options = dict(name.options) if isinstance(name, Connected) else {}
    if is_ambiguous(str(options.get("base_url", ""))):
        raise ConfigurationError(f"base_url {AMBIGUOUS}")
    variable = options.pop("api_key_env", None)
    if variable is not None:
        if not (key := os.environ.get(str(variable))):
            raise ConfigurationError(f"api_key_env={variable!r}: there is no such variable. Set it")
        options["api_key"] = key
    if isinstance(key := options.get("api_key"), str):
        options["api_key"] = clean_key(key, str(variable or "api_key"))
    return options


def stored_options(**roles: object) -> dict[str, dict[str, Any]]:
    """What a database may know of the options of a run's roles: all but the secrets."""
    return {
        role: redacted(given.options)
        for role, given in roles.items()
        if isinstance(given, Connected) and given.options
    }


def reconnected(given: T, stored: Mapping[str, Any] | None, role: str) -> T:
    """A stored name with its stored options, for a run that is resumed.

    Raises:
        ConfigurationError: there was a secret among them, which was not stored.
    """
    if not stored or not isinstance(given, str) or isinstance(given, Connected):
        return given
    if has_hidden(stored):
        raise ConfigurationError(
            f"the run was started with {role}_options={dict(stored)!r}, and what stands as "
            f"{HIDDEN!r} is kept nowhere: give {role}_options again. With "
            '"api_key_env": "VARIABLE" in place of a key that is not needed.'
        )
    return connected(given, stored, role)

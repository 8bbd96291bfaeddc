"""Specs, URLs and options as they may leave memory: without the secrets in them.

Whatever is stored, shown or put into an error goes through `redacted` first, if a person can have
put a password or a key into it.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

HIDDEN = "***"

_NO_PORT = r"[^/?#\s'\":@]*:(?!\d*(?:[/?#]|$))"
_USER_INFO = re.compile(
    # A password may hold a "/", "?" or "#" as it is; what follows a port is no password.
    rf"(://)(?:{_NO_PORT}[^\s'\"#]{{0,500}}|{_NO_PORT}[^\s'\"]{{0,500}}|[^/?#\s'\"]{{0,500}})@"
)
_FORM = "://USER:PASSWORD@"
_AUTHORITY = re.compile(r"//([^/?#]*)([^#]*)(.*)", re.DOTALL)
_IN_QUERY = re.compile(
    r"([?&;](?:[\w.-]*(?:key|token|secret|password|passwd|pwd|signature|sig|auth)[\w.-]*)=)[^&;#\s'\"]*",
    re.IGNORECASE,
)
_KEY = re.compile(r"\b(?:sk|gsk|xai|hf)[-_][A-Za-z0-9_\-*.]{12,}", re.IGNORECASE)
_BEARER = re.compile(r"\b(Bearer|Basic)\s+[^\s'\"]+", re.IGNORECASE)
_SECRET_NAME = re.compile(
    r"key$|token$|secret|passw|pwd|auth(?!or)|credential|cookie|signature", re.IGNORECASE
)
_NAMES_OF_SECRETS = re.compile(r"_env$", re.IGNORECASE)
_IN_ROWS = ("launch", "policy", "critic", "reward_model", "prompts", "error")
_PLAIN_HEADERS = ("accept", "content-type", "user-agent")


def redacted(value: Any) -> Any:
    """A text, mapping or list with every secret replaced by "***"; anything else as it is.

    Secrets are user and password of a URL, keys and tokens in its query, keys of the usual forms,
    what stands under a name such as `api_key`, and the values of headers.
    """
    if isinstance(value, str):
        text = _USER_INFO.sub(_without_user, value)
        text = _IN_QUERY.sub(rf"\1{HIDDEN}", text)
        text = _BEARER.sub(rf"\1 {HIDDEN}", text)
        return _KEY.sub(HIDDEN, text)
    if isinstance(value, Mapping):
        fields = cast("Mapping[Any, Any]", value)
        return {name: _field(str(name), each) for name, each in fields.items()}
    if isinstance(value, list | tuple):
        return [redacted(each) for each in cast("list[Any]", value)]
    if hasattr(value, "get_secret_value"):
        return HIDDEN
    return value


def _without_user(found: re.Match[str]) -> str:
    # Our own messages show the form of a URL with these words.
    return found[0] if found[0] == _FORM else f"{found[1]}{HIDDEN}@"


def is_ambiguous(url: str) -> bool:
    """Whether a user name or password stands in a URL with a "/", "?", "#" or "@" as it is.

    Where such a URL's host begins is anybody's guess: a part of the password would be sent and
    shown as a host or a path. Written as %2F, %3F, %23 and %40 they mean what was meant.
    """
    found = _AUTHORITY.search(url)
    if found is None:
        return False
    authority, path, fragment = found.groups()
    no_port = ":" in authority and not re.search(r":\d*$", authority)
    return authority.count("@") > 1 or "@" in path or ("@" in fragment and no_port)


AMBIGUOUS = (
    'has an "@" where none can stand. Write these characters of a user name or password as '
    'escapes: "/" is %2F, "?" is %3F, "#" is %23, "@" is %40, "%" is %25.'
)
"""What to say of an ambiguous URL, which itself must not be shown."""


def redacted_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A stored run or batch, redacted where it names models or tells an error.

    Done when it is read as well: earlier versions stored specs as they were given.
    """
    return {**row, **{name: redacted(row[name]) for name in _IN_ROWS if name in row}}


def has_hidden(value: Any) -> bool:
    """Whether something in a redacted value was a secret."""
    if isinstance(value, Mapping):
        return any(has_hidden(each) for each in cast("Mapping[Any, Any]", value).values())
    if isinstance(value, list):
        return any(has_hidden(each) for each in cast("list[Any]", value))
    return isinstance(value, str) and HIDDEN in value


def _field(name: str, value: Any) -> Any:
    if _NAMES_OF_SECRETS.search(name):
        return value
    if "headers" in name.lower() and isinstance(value, Mapping):
        headers = cast("Mapping[Any, Any]", value)
        return {h: v if str(h).lower() in _PLAIN_HEADERS else HIDDEN for h, v in headers.items()}
    if _SECRET_NAME.search(name) and value is not None:
        return HIDDEN
    return redacted(value)

"""Specs, URLs and options as they may leave memory: without the secrets in them.

Whatever is stored, shown or put into an error goes through `redacted` first, if a person can have
put a password or a key into it.
"""

import re
from collections.abc import Mapping
from typing import Any, cast

HIDDEN = "***"

_USER_INFO = re.compile(r"(://)[^/?#\s'\"]*@")
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
        text = _USER_INFO.sub(rf"\1{HIDDEN}@", value)
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

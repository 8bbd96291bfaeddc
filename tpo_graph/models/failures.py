"""From a provider's exception to one `PolicyError` that says what to change.

The exceptions of openai, anthropic and kin are read by their attributes (`status_code`, `body`),
so no provider's package is imported here. No API key reaches the message.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseChatModel
from pydantic import SecretStr

from tpo_graph.errors import PolicyError

_LONGEST = 400
_KEY = re.compile(r"\b(?:sk|gsk|xai|key)-[A-Za-z0-9_\-*.]{6,}|\bBearer\s+\S+", re.IGNORECASE)
_OVERFLOW = re.compile(
    r"context[_ ](?:length|window)|maximum (?:context|model) length|prompt is too long"
    r"|longer than the maximum|too many tokens",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"unsupported|not support|unknown|unrecognized|unexpected|not permitted|not allowed"
    r"|only the default",
    re.IGNORECASE,
)
_OPTIONS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "seed": "seed",
    "n": "n",
}


def one_line(error: BaseException | str, secrets: Iterable[str] = ()) -> str:
    """The text of an error on one line, at most 400 characters, without keys."""
    text = " ".join(str(error).split()) or type(error).__name__
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _KEY.sub("***", text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def refused_option(error: BaseException) -> str | None:
    """The sampling option that the server refused ("temperature", "n", ...), if it was one."""
    if _status(error) not in (400, 422):
        return None
    body, text = _body(error), _server_text(error)
    code = str(body.get("code") or "")
    if not (code.startswith("unsupported") or _REFUSED.search(text)):
        return None
    named = body.get("param")
    if isinstance(named, str) and named in _OPTIONS:
        return _OPTIONS[named]
    for name, option in _OPTIONS.items():
        quoted = rf"['\"`]{name}['\"`]|\b{name}\s*[=:]"
        if re.search(quoted if len(name) == 1 else rf"\b{name}\b", text):
            return option
    return None


def policy_error(error: BaseException, model: BaseChatModel, name: str, stage: str) -> PolicyError:
    """The error to raise for a model call that failed for good.

    Args:
        error: what the chat model raised after its own retries.
        model: the chat model; its keys are kept out of the message.
        name: what to call it (`model_name`).
        stage: the node that asked; it decides which option is named.
    """
    text = one_line(_server_text(error), _secrets(model))
    status = _status(error)
    head = f"{name!r} failed" + (f" with status {status}" if status else "") + f": {text!r}."
    return PolicyError(f"{head} {_fix(error, text, status, stage)}")


def _fix(error: BaseException, text: str, status: int | None, stage: str) -> str:
    option = refused_option(error)
    if option is not None:
        critic = "critic_" if stage in ("loss", "gradient") and option != "seed" else ""
        flag = f"{critic}{option}".replace("_", "-")
        return f"Leave the option out: {critic}{option}=None, or --{flag} none."
    overflow = _OVERFLOW.search(f"{_body(error).get('code')} {text}")
    if isinstance(error, ContextOverflowError) or (status in (400, 413) and overflow):
        return (
            "The prompt and the reply do not fit into the model's context length: "
            "shorten the conversation or lower max_tokens."
        )
    kind = type(error).__name__.lower()
    if status is None and "timeout" in kind:
        return "It did not answer in time: raise the model's timeout, or run fewer at once."
    if status is None and "connect" in kind:
        return "It cannot be reached: is the server running, and is its base URL right?"
    by_status = {
        400: "The request itself is refused; see the server's message.",
        401: "Check the API key.",
        403: "Check that the API key may use this model.",
        404: "Check the model's name and the server's base URL.",
        429: "It stays over its rate limit or quota: run fewer at once, or try again later.",
    }
    if status is not None and status >= 500:
        return "The server keeps failing: see its log, then try again."
    return by_status.get(status or 0, "See the cause for its own account.")


def _status(error: BaseException) -> int | None:
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def _body(error: BaseException) -> Mapping[str, Any]:
    body: object = getattr(error, "body", None)
    if not isinstance(body, dict):
        return {}
    fields = cast("dict[str, Any]", body)
    nested = fields.get("error")
    return cast("dict[str, Any]", nested) if isinstance(nested, dict) else fields


def _server_text(error: BaseException) -> str:
    message = _body(error).get("message")
    if isinstance(message, str) and message:
        return message
    body: object = getattr(error, "body", None)
    return body if isinstance(body, str) and body.strip() else str(error)


def _secrets(model: BaseChatModel) -> list[str]:
    values: list[object] = list(model.__dict__.values())
    headers = getattr(model, "default_headers", None)
    if isinstance(headers, Mapping):
        values += cast("Mapping[str, object]", headers).values()
    found = [v.get_secret_value() if isinstance(v, SecretStr) else None for v in values]
    plain = [v for v in values[len(model.__dict__) :] if isinstance(v, str)]
    return sorted((s for s in [*found, *plain] if s and len(s) >= 6), key=len, reverse=True)

"""From a provider's exception to one `PolicyError` that says what to change.

The exceptions of openai, anthropic and kin are read by their attributes (`status_code`, `body`),
so no provider's package is imported here. No API key reaches the message.
"""

import json
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
    r"context[_ ](?:length|window|size)|max_model_len|maximum (?:context|model) length"
    r"|prompt is too long|longer than the maximum|too many tokens|exceeds? n_ctx"
    r"|max_tokens must be at least 1, got -",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"unsupported|not support|unknown|unrecognized|unexpected|not permitted|not allowed"
    r"|only the default|cannot|can't|not accept|deprecated|invalid|must be|should be|at most"
    r"|too (?:large|high|big)|exceeds?|greater than|less than|out of range|forbidden",
    re.IGNORECASE,
)
_BOTH = re.compile(r"temperature\b.{0,60}\btop_p|top_p\b.{0,60}\btemperature", re.IGNORECASE)
_ABOUT_N = re.compile(
    r"['\"`]n['\"`]|\bn\s*(?:[=:<>]|value|must|should)|\bbest_of\b|greedy"
    r"|(?:completion|multiple|several|more than one|number of)\W{1,3}(?:completion |candidate )?"
    r"(?:choice|completion|candidate|sample|generation)s?|candidate_?count",
    re.IGNORECASE,
)
_BOUND = re.compile(
    r"(?:at most|no more than|maximum(?: value)?(?: is| of|:)?|\bmax\b|up to|or equal to|<=|≤|only"
    r"|between 1 and|from 1 to|\[1,|must be|n\s*=)\s*(?:n\s*=\s*)?(\d+)",
    re.IGNORECASE,
)
_NOT_ABOUT_N = (401, 402, 403, 404, 408, 409, 425, 429)
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
    """The sampling option that the server refused ("temperature", "n", ...), if it was one.

    Of temperature and top_p, where both together are refused, it is top_p.
    """
    if status_of(error) not in (400, 422):
        return None
    body, text = _body(error), server_text(error)
    code = str(body.get("code") or "")
    if not (code.startswith("unsupported") or _REFUSED.search(text) or refuses_both(text)):
        return None
    if refuses_both(text):
        return "top_p"
    named = body.get("param")
    if isinstance(named, str) and named in _OPTIONS:
        return _OPTIONS[named]
    for name, option in _OPTIONS.items():
        quoted = rf"['\"`]{name}['\"`]|\b{name}\s*[=:]"
        if re.search(quoted if len(name) == 1 else rf"\b{name}\b", text):
            return option
    return None


def refuses_both(text: str) -> bool:
    """Whether a server says that it takes temperature or top_p, but not both."""
    one = re.search(r"\bboth\b|only one|together|not\b.{0,20}\band\b|either", text, re.IGNORECASE)
    return bool(_BOTH.search(text) and one)


def fewer_samples(error: BaseException, asked: int) -> int | None:
    """How many samples to ask for after a request for `asked` of them has failed for good.

    The number that the server names, else 1; None when the failure has another reason, and fewer
    samples would fail as well. Servers refuse n in too many words to know them all, so every
    refusal that is nothing else counts.
    """
    if asked < 2:
        return None
    status, text, option = status_of(error), server_text(error), refused_option(error)
    if status in _NOT_ABOUT_N or is_overflow(error):
        return None
    if option != "n" and not _ABOUT_N.search(text):
        unexplained = status is not None and 400 <= status < 500 and option is None
        return 1 if unexplained else None
    if status is None and not isinstance(error, ValueError | TypeError):
        return None
    bounds = [int(found) for found in _BOUND.findall(text)]
    return min((bound for bound in bounds if 0 < bound < asked), default=1)


def is_overflow(error: BaseException) -> bool:
    """Whether prompt and reply together are too long for the model."""
    if isinstance(error, ContextOverflowError):
        return True
    told = f"{_body(error).get('code')} {server_text(error)}"
    return status_of(error) in (400, 413, 422, 500) and bool(_OVERFLOW.search(told))


def policy_error(error: BaseException, model: BaseChatModel, name: str, stage: str) -> PolicyError:
    """The error to raise for a model call that failed for good, without the model's keys. The stage
    that asked decides which option it names."""
    text = one_line(server_text(error) or error, _secrets(model))
    status = status_of(error)
    head = f"{name!r} failed" + (f" with status {status}" if status else "") + f": {text!r}."
    return PolicyError(f"{head} {_fix(error, status, stage)}")


def _fix(error: BaseException, status: int | None, stage: str) -> str:
    option = refused_option(error)
    if is_overflow(error):
        return (
            "The prompt and the reply do not fit into the model's context length: "
            f"shorten the conversation or lower {_named('max_tokens', stage)}."
        )
    if option == "max_tokens":
        return f"Lower {_named(option, stage)}, or set it to none."
    if option == "top_p" and refuses_both(server_text(error)):
        temperature = _named("temperature", stage, "none")
        return f"Leave one of them out: {_named('top_p', stage, 'none')}, or {temperature}."
    if option is not None:
        return f"Leave the option out: {_named(option, stage, 'none')}."
    kind = type(error).__name__.lower()
    if status is None and "timeout" in kind:
        return (
            "It did not answer in time: raise its timeout (model_options, --model-options "
            "'{\"timeout\": 1800}'), or run fewer at once."
        )
    if status is None and "connect" in kind:
        return "It cannot be reached: is the server running, and is its base URL right?"
    by_status = {
        **dict.fromkeys((400, 422), "The request itself is refused; see the server's message."),
        401: "Check the API key.",
        402: "Check the account's balance.",
        403: "Check that the API key may use this model.",
        404: "Check the model's name and the server's base URL.",
        429: "It stays over its rate limit or quota: run fewer at once, or retry later.",
    }
    if status is not None and status >= 500:
        return "The server keeps failing: see its log, then retry."
    return by_status.get(status or 0, "See the cause for its own account.")


def _named(option: str, stage: str, value: str | None = None) -> str:
    """An option of the stage as Python and the command line write it, set to a value if given."""
    critic = "critic_" if stage in ("loss", "gradient") and option != "seed" else ""
    flag = f"--{critic}{option}".replace("_", "-")
    if value is None:
        return f"{critic}{option} ({flag})"
    return f"{critic}{option}=None or {flag} {value}"


def status_of(error: BaseException) -> int | None:
    """The HTTP status behind an exception of any provider's package, or behind its cause."""
    for _ in range(5):
        response: object = getattr(error, "response", None)
        body = _body(error)
        for found in (
            getattr(error, "status_code", None),
            getattr(response, "status_code", None),
            getattr(error, "code", None),
            body.get("code"),
            body.get("status"),
        ):
            if isinstance(found, int) and 400 <= found < 600:
                return int(found)
        if error.__cause__ is None:
            break
        error = error.__cause__
    return None


def _body(error: BaseException) -> Mapping[str, Any]:
    """The server's account of an error, as far as it is an object."""
    body: object = getattr(error, "body", None)
    if body is None and len(error.args) == 1:
        body = error.args[0]  # ChatOpenAI raises ValueError(what a reply of status 200 says)
    if isinstance(body, list) and body:
        body = cast("list[object]", body)[0]  # Gemini's OpenAI-compatible API
    if not isinstance(body, dict):
        return {}
    fields = cast("dict[str, Any]", body)
    nested = fields.get("error")
    return cast("dict[str, Any]", nested) if isinstance(nested, dict) else fields


def server_text(error: BaseException) -> str:
    """What the server itself says went wrong; the exception's text where it says nothing."""
    body = _body(error)
    for name in ("message", "detail", "error", "msg"):
        told: object = body.get(name)
        if isinstance(told, str) and told.strip():
            return told
        if isinstance(told, list | dict) and told:
            return _words(cast("list[Any] | dict[str, Any]", told))
    raw: object = getattr(error, "body", None)
    if isinstance(raw, str) and raw.strip():
        return raw
    return json.dumps(body, ensure_ascii=False, default=str) if body else str(error)


def _words(told: list[Any] | dict[str, Any]) -> str:
    """FastAPI's list of what is wrong, in words; anything else as JSON."""
    problems: list[str] = []
    for problem in told if isinstance(told, list) else []:
        fields = cast("dict[str, Any]", problem) if isinstance(problem, dict) else {}
        if not isinstance(fields.get("msg"), str):
            return json.dumps(told, ensure_ascii=False, default=str)
        place = ".".join(str(part) for part in fields.get("loc") or ())
        problems.append(f"{place}: {fields['msg']}" if place else fields["msg"])
    return "; ".join(problems) or json.dumps(told, ensure_ascii=False, default=str)


def _secrets(model: BaseChatModel) -> list[str]:
    values: list[object] = list(model.__dict__.values())
    headers = getattr(model, "default_headers", None)
    if isinstance(headers, Mapping):
        values += cast("Mapping[str, object]", headers).values()
    found = [v.get_secret_value() if isinstance(v, SecretStr) else None for v in values]
    plain = [v for v in values[len(model.__dict__) :] if isinstance(v, str)]
    return sorted((s for s in [*found, *plain] if s and len(s) >= 6), key=len, reverse=True)

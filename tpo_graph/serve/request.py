"""A request for a chat completion: read, checked against the operator's bounds, and identified."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from langchain_core.messages import BaseMessage
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tpo_graph.context import BUDGETS, TPOContext
from tpo_graph.conversation import as_messages, well_formed
from tpo_graph.errors import ConfigurationError, invalid_settings
from tpo_graph.serve.catalog import Catalog
from tpo_graph.serve.formats import Format
from tpo_graph.serve.options import ServeOptions
from tpo_graph.serve.refusals import invalid
from tpo_graph.serve.response_items import chat_body
from tpo_graph.serve.tools import as_functions
from tpo_graph.settings import Settings
from tpo_graph.stopping import need_prices

_OPERATORS = {"interrupt_at", "input_price", "cached_price", "output_price"}
"""Fields of `TPOContext` that no request may set."""
_NUMBERS = ("n", "seed")
"""Fields that are counted with, and that a client may have sent as text."""
_OF_A_TURN = ("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call")
"""What concerns the base model's own turn alone: whether and how it calls tools."""


class StreamOptions(BaseModel):
    """Of a stream."""

    include_usage: bool | None = None


class ChatRequest(BaseModel):
    """What of a request's body matters for a run; clients send many other fields as well."""

    model_config = ConfigDict(extra="ignore")

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1, le=128)
    stop: str | list[str] | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: dict[str, Any] | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    tpo: dict[str, Any] | None = None


@dataclass(frozen=True)
class Asked:
    """One request that is fit to be answered."""

    model: str
    """As the client wrote it."""
    body: dict[str, Any]
    """The whole request, without `tpo`."""
    stream: bool
    include_usage: bool
    n: int
    stop: list[str]
    context: TPOContext | None
    """The run's; None: the base model is asked, without a run."""
    messages: list[BaseMessage] = field(default_factory=list[BaseMessage])
    form: Format | None = None
    """What the answer must look like."""
    custom_tools: frozenset[str] = frozenset()
    """Names of the tools whose calls are free text."""

    @property
    def turn(self) -> dict[str, Any]:
        """The fields that say how the base model may call tools; empty if it may not."""
        if not self.body.get("tools") and not self.body.get("functions"):
            return {}
        return {name: self.body[name] for name in _OF_A_TURN if self.body.get(name) is not None}

    @property
    def fingerprint(self) -> str:
        """Digest of all that the answer depends on, and of nothing else."""
        assert self.context is not None
        told = {
            "messages": self.body["messages"],
            "context": self.context.model_dump(mode="json"),
            "turn": self.turn,
            "response_format": self.body.get("response_format"),
            "n": self.n,
            "stop": self.stop,
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def read_chat_request(
    body: Mapping[str, Any], catalog: Catalog, settings: Settings, options: ServeOptions
) -> Asked:
    """The request in this body.

    A body of the Responses API is taken as well: Cursor's agent sends those to the path of chat
    completions, and reads a chat completion.

    Raises:
        Refusal: it is malformed, or asks for what it must not.
    """
    if "messages" not in body and "input" in body:
        body = chat_body(body)
    body, custom_tools = as_functions(body)
    chat = _validated(body)
    own = catalog.settings_of(chat.model)
    wishes = chat.tpo or {}
    if own is None and wishes:
        raise invalid(
            f"{chat.model!r} is the base model, which knows no options in `tpo`. Ask for "
            f"{catalog.names[0]!r}.",
            "tpo",
        )
    stop = [chat.stop] if isinstance(chat.stop, str) else [word for word in chat.stop or () if word]
    whole = {k: getattr(chat, k) if k in _NUMBERS else v for k, v in body.items() if k != "tpo"}
    asked = Asked(
        model=chat.model,
        body=whole,
        stream=bool(chat.stream),
        include_usage=bool(chat.stream_options and chat.stream_options.include_usage),
        n=chat.n or 1,
        stop=stop,
        context=None,
        custom_tools=custom_tools,
    )
    if own is None:
        return replace(asked, body={**whole, **_most_tokens(chat, options)})
    if chat.logprobs or chat.top_logprobs:
        raise invalid(
            "logprobs are not available: the answer is the best of several, some of them written "
            f"in other calls. The base model {catalog.base!r} may give them.",
            "logprobs",
            "unsupported_parameter",
        )
    try:
        messages = as_messages(chat.messages)
    except ConfigurationError as error:
        raise invalid(str(error), "messages") from None
    context = _context({**own, **_sampling(chat)}, wishes, settings, options)
    _need_prices(context, catalog, settings)
    if asked.n > context.width * (1 + context.depth):
        raise invalid(
            f"n={asked.n} is more than the {context.width * (1 + context.depth)} responses that "
            "this run has. Raise tpo.width.",
            "n",
        )
    wanted = chat.response_format
    form = Format(wanted) if wanted and wanted.get("type") != "text" else None
    return replace(asked, context=context, messages=messages, form=form)


def _validated(body: Mapping[str, Any]) -> ChatRequest:
    """The fields that matter here.

    Raises:
        Refusal: one is missing or of another kind.
    """
    try:
        return ChatRequest.model_validate(body)
    except ValidationError as error:
        where = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        raise invalid(str(invalid_settings(error, ChatRequest)), where or None) from None


def _most_tokens(chat: ChatRequest, options: ServeOptions) -> dict[str, int]:
    """What of a request to the base model is more than the operator allows, lowered to that."""
    most = options.max_output_tokens
    if most is None:
        return {}
    asked = {"max_completion_tokens": chat.max_completion_tokens, "max_tokens": chat.max_tokens}
    given = {name: min(value, most) for name, value in asked.items() if value is not None}
    return given or {"max_completion_tokens": most}


def _sampling(chat: ChatRequest) -> dict[str, Any]:
    """OpenAI's sampling parameters in the words of `TPOContext`."""
    found = {
        "temperature": chat.temperature,
        "top_p": chat.top_p,
        "max_tokens": chat.max_completion_tokens or chat.max_tokens,
        "seed": None if chat.seed is None else chat.seed % 2**31,
    }
    return {name: value for name, value in found.items() if value is not None}


def _context(
    own: dict[str, Any], wishes: dict[str, Any], settings: Settings, options: ServeOptions
) -> TPOContext:
    """The run's context.

    Raises:
        Refusal: an option does not exist, is out of bounds, or is the operator's alone.
    """
    if forbidden := sorted(_OPERATORS & wishes.keys()):
        raise invalid(f"tpo.{forbidden[0]} is set by this server alone", f"tpo.{forbidden[0]}")
    try:
        TPOContext.checked(wishes)
        context = TPOContext.checked({**settings.run_options(), **own, **wishes})
    except ConfigurationError as error:
        raise invalid(f"in tpo: {error}", "tpo") from None
    for name in ("depth", "width"):
        most = max(getattr(options, f"max_{name}"), getattr(settings, name))
        if (value := getattr(context, name)) > most:
            raise invalid(f"tpo.{name}={value} is more than this server allows: {most}", name)
    for name in BUDGETS:
        most, value = getattr(settings, name), getattr(context, name)
        if most is not None and (value is None or value > most):
            raise invalid(f"tpo.{name}={value} is more than this server allows: {most}", name)
    choices = {"policy": settings.policies, "critic": settings.critics}
    for name, known in {**choices, "reward_model": settings.reward_models}.items():
        wanted = cast("str | None", wishes.get(name))
        if wanted is not None and wanted not in known:
            raise invalid(
                f"tpo.{name}={wanted!r:.200} is not a choice of this server; there are: "
                f"{', '.join(sorted(known)) or 'none'}",
                f"tpo.{name}",
            )
    if options.max_output_tokens is not None:
        asked = context.max_tokens or options.max_output_tokens
        context = context.model_copy(update={"max_tokens": min(asked, options.max_output_tokens)})
    return context


def _need_prices(context: TPOContext, catalog: Catalog, settings: Settings) -> None:
    """Refuse a budget of money that no price is known for. The models' names are nobody's business.

    Raises:
        Refusal: there is one.
    """
    policy = settings.policies.get(context.policy or "", catalog.policy)
    critic = settings.critics.get(context.critic or "", catalog.critic or policy)
    try:
        need_prices(context, {"policy": policy, "critic": critic})
    except ConfigurationError:
        raise invalid(
            f"tpo.max_cost={context.max_cost!r} cannot be kept to: this server knows no price of "
            "its models. Leave it out; tpo.max_total_tokens bounds the tokens.",
            "tpo.max_cost",
        ) from None


def as_object(text: bytes) -> dict[str, Any]:
    """A request's body as a JSON object; half a character in it is replaced, as in a draft.

    Raises:
        Refusal: it is none.
    """
    try:
        body: object = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        if b"\\u" in text or b"\xed" in text:  # as JSON may write half of one, or raw UTF-8
            body = json.loads(well_formed(json.dumps(body, ensure_ascii=False)))
    except (ValueError, RecursionError) as error:
        raise invalid(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise invalid(f"the body is a {type(body).__name__}, not an object")
    return cast("dict[str, Any]", body)


def _finite(number: str) -> float:
    value = float(number)
    return value if math.isfinite(value) else _refuse(number)


def _refuse(number: str) -> float:
    raise ValueError(f"{number} is not a JSON number")

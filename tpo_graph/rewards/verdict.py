"""Ask a chat model for a verdict in JSON, and get a checked one or an error, never a default.

Judges ask through this. Servers that can hold a reply to a schema are told it; every reply is
checked all the same, and a wrong one is sent back once with what is wrong about it.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from tpo_graph.context import Sampling
from tpo_graph.conversation import Turn, transcript, well_formed
from tpo_graph.errors import PolicyError, RewardError
from tpo_graph.models.failures import refused_option
from tpo_graph.models.load import load_chat_model, model_name
from tpo_graph.models.sampling import generate
from tpo_graph.redaction import redacted
from tpo_graph.rewards.together import Slots
from tpo_graph.usage import spend

T = TypeVar("T")


class Asker:
    """A chat model, or the name of one, in the role of a judge whose verdicts are objects that fit
    a JSON schema.

    Raises:
        ConfigurationError: the name is not usable.
    """

    def __init__(
        self,
        model: str | BaseChatModel,
        schema: dict[str, Any],
        *,
        max_tokens: int,
        max_concurrency: int,
    ) -> None:
        given = load_chat_model(model)
        self.name = model_name(given)
        self.options = _options(given)
        """What else than its name decides what the model says, for the judge's name."""
        self._plain = given
        self._model = _held_to(given, schema)
        self._slots = Slots(max_concurrency)
        # As repeatable as the server can be: scores are kept by the judge's name.
        self._sampling = Sampling(temperature=0.0, top_p=None, max_tokens=max_tokens, seed=0)

    async def ask(self, system: str, user: str, read: Callable[[dict[str, Any]], T]) -> T:
        """The verdict that `read` makes of the reply's JSON object, or raises ValueError about.

        Raises:
            RewardError: the model failed, or gave no verdict twice.
        """
        messages: list[BaseMessage] = [SystemMessage(system), HumanMessage(user)]
        async with self._slots.here():
            reply = await self._reply(messages)
            try:
                return read(_json_object(reply))
            except ValueError as error:
                again = f"That is no verdict: {error}. Reply with the JSON object and nothing else."
                messages += [AIMessage(reply or "(nothing)"), HumanMessage(again)]
            reply = await self._reply(messages)
        try:
            return read(_json_object(reply))
        except ValueError as error:
            raise RewardError(
                f"the judge {self.name!r} gave no verdict, twice; the second time {reply[:200]!r}: "
                f"{error}. Use a model that follows instructions, or raise max_tokens."
            ) from error

    async def _reply(self, messages: Sequence[BaseMessage]) -> str:
        while True:
            model, sampling = self._model, self._sampling
            try:
                generated = await generate(model, messages, 1, sampling, stage="judge")
                spend(generated.usage)
                return generated.texts[0] if generated.texts else ""
            except PolicyError as error:
                if not self._leave_out_what_is_refused(error, model, sampling):
                    raise RewardError(f"the judge {error}") from error

    def _leave_out_what_is_refused(
        self, error: PolicyError, model: BaseChatModel, sampling: Sampling
    ) -> bool:
        """Whether the error refuses an option of this request; later ones go without it.

        Calls side by side are refused side by side: what counts is what this request had sent.
        """
        cause = error.__cause__
        option = cause and refused_option(cause)
        if option and dict(sampling).get(option) is not None:
            self._sampling = cast(Sampling, {**self._sampling, option: None})
            return True
        told = str(cause).lower()
        if model is not self._plain and ("response_format" in told or "schema" in told):
            self._model = self._plain
            return True
        return False


def shown(conversation: Sequence[Turn], **answers: str) -> str:
    """Conversation and answers between markers that nothing in them can imitate."""
    parts = {"conversation": transcript(conversation), **answers}
    parts = {name: well_formed(text) for name, text in parts.items()}
    # A text that contains its own digest cannot be written.
    mark = hashlib.sha256("\0".join(parts.values()).encode()).hexdigest()[:8]
    return "\n\n".join(f"<{name}-{mark}>\n{text}\n</{name}-{mark}>" for name, text in parts.items())


_NO_OPTIONS = frozenset(
    [
        "cache",
        "callbacks",
        "custom_get_token_ids",
        "metadata",
        "name",
        "rate_limiter",
        "tags",
        "verbose",
        "timeout",
        "request_timeout",
        "max_retries",
        "disable_streaming",
        "streaming",
        "stream_usage",
        "profile",
        "http_socket_options",
        "include_response_headers",
        "n",
    ]
)
"""Fields of chat models that do not change what they say."""


def _options(model: BaseChatModel) -> str:
    """The model's own options (base URL, temperature, what is added to requests) in JSON, without
    keys and headers."""
    fields = {name: getattr(model, name, None) for name in sorted(type(model).model_fields)}
    plain = {
        name: value
        for name, value in fields.items()
        if value is not None and name not in _NO_OPTIONS and "header" not in name and _plain(value)
    }
    return json.dumps(redacted(plain), sort_keys=True)


def _plain(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _held_to(model: BaseChatModel, schema: dict[str, Any]) -> BaseChatModel:
    """A copy whose server is told the schema, where the model's class knows how to."""
    fields = type(model).model_fields
    if "model_kwargs" not in fields or not hasattr(model, "root_async_client"):
        return model
    wanted = {"name": "verdict", "strict": True, "schema": schema}
    kwargs: dict[str, Any] = {
        **getattr(model, "model_kwargs", {}),
        "response_format": {"type": "json_schema", "json_schema": wanted},
    }
    return model.model_copy(update={"model_kwargs": kwargs})


def _json_object(reply: str) -> dict[str, Any]:
    """The one JSON object in a reply, which may have words or a code fence around it."""
    start, end = reply.find("{"), reply.rfind("}")
    if start < 0 or end < start:
        raise ValueError("there is no JSON object in it")
    try:
        found: object = json.loads(reply[start : end + 1])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its JSON cannot be read ({error})") from error
    return cast("dict[str, Any]", found)

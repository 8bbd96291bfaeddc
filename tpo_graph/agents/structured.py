"""Structured output: candidates are JSON, what breaks the schema loses, and the best one is read.

The policy is asked for JSON in words, so this works with every model; the agent's or the model's
own structured answer, made its provider's way, is the first of the first samples.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, SystemMessage
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import BaseModel, TypeAdapter, ValidationError

from tpo_graph.conversation import Turn, well_formed
from tpo_graph.errors import ConfigurationError, RewardInputError
from tpo_graph.rewards import RewardModel
from tpo_graph.rewards.base import title_of

_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_ASKED = (
    "Answer with one JSON value that fits this JSON schema, and with nothing else: no words before "
    "or after it.\n"
)


class StructuredForm:
    """A schema as LangChain takes them, and how answers of that form are written and read.

    Args:
        schema: a pydantic model, a dataclass, a TypedDict, or a JSON schema.

    Raises:
        ConfigurationError: it is none of these, or a schema in JSON needs a missing package.
    """

    def __init__(self, schema: Any) -> None:
        given: Any = schema
        typed = isinstance(given, type) and (
            issubclass(cast("type[Any]", given), BaseModel) or is_dataclass(cast("Any", given))
        )
        # Of pydantic's first version: LangChain still takes them.
        self._first: Any = schema if not typed and hasattr(schema, "parse_obj") else None
        self._type: TypeAdapter[Any] | None = TypeAdapter(schema) if typed else None
        try:
            self.json_schema: dict[str, Any] = (
                self._type.json_schema() if self._type else convert_to_json_schema(schema)
            )
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"not a schema: {schema!r:.200}. ({error})") from error
        self._violation = None if typed else _checker(self.json_schema)

    def write(self, value: Any) -> str:
        """A value of this form as JSON, for the reward model: what its class hides stays hidden."""
        if self._first is not None:
            return str(value.json(by_alias=True))
        if self._type is not None and not isinstance(value, dict):
            value = self._type.dump_python(value, mode="json", by_alias=True)
        return json.dumps(value, ensure_ascii=False)

    def written(self, message: AIMessage, value: Any) -> str:
        """A model's own structured answer, and the value that was read from it, as JSON.

        As the model wrote it, if it can be read again: values with excluded or secret fields say
        less than that.
        """
        calls = message.tool_calls
        said = json.dumps(calls[0]["args"], ensure_ascii=False) if calls else str(message.text)
        said = well_formed(said)
        try:
            self.read(said)
        except ValueError:
            return self.write(value)
        return said

    def read(self, text: str) -> Any:
        """The value that an answer holds, alone or in a code fence.

        Raises:
            ValueError: it is not JSON, or breaks the schema; says where.
        """
        inner = _without_fence(text)
        try:
            found: Any = json.loads(inner)
            if self._type is not None:
                return self._type.validate_json(inner)
            if self._first is not None:
                return self._first.parse_obj(found)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise ValueError(f"{where}: {first['msg']}") from error
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error
        if self._violation is not None and (told := self._violation(found)):
            raise ValueError(told)
        return found

    def asked(self, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        """The conversation with the schema in its system prompt."""
        told = _ASKED + json.dumps(self.json_schema, ensure_ascii=False)
        if messages and isinstance(messages[0], SystemMessage):
            return [SystemMessage(f"{messages[0].text}\n\n{told}"), *messages[1:]]
        return [SystemMessage(told), *messages]


def _without_fence(text: str) -> str:
    blocks: list[str] = _FENCED.findall(text)
    return blocks[0] if len(blocks) == 1 else text


def form_of(response_format: Any, message: AIMessage, value: Any) -> StructuredForm:
    """The form of an agent's structured response.

    Args:
        response_format: the strategy with which the agent's model was asked.
        message: the model's answer; it calls the tool that stands for the schema, if one does.
        value: what was read from it.
    """
    if isinstance(value, BaseModel) or is_dataclass(value):
        return StructuredForm(cast("type", type(value)))
    specs: list[Any] = getattr(response_format, "schema_specs", [])
    called = {call["name"] for call in message.tool_calls}
    for spec in specs:
        if spec.name in called:
            return StructuredForm(spec.schema)
    return StructuredForm(response_format.schema)


def requested_form(response_format: Any) -> StructuredForm | None:
    """The form that a model call asks its provider for; None where it names no schema.

    Args:
        response_format: a type, or OpenAI's object of type "json_schema".
    """
    if isinstance(response_format, type):
        return StructuredForm(response_format)
    try:
        wrapped: dict[str, Any] = response_format["json_schema"]
        return StructuredForm({"title": wrapped.get("name", "answer"), **wrapped["schema"]})
    except (KeyError, TypeError):
        return None


def with_value(
    result: Sequence[BaseMessage], answer: AIMessage, form: StructuredForm, told: str | None
) -> tuple[list[BaseMessage], Any]:
    """An agent's messages with the run's answer in the place of its own, and the value to read.

    Args:
        result: the agent's message that holds the value, and the tool message that confirms it.
        answer: what takes its place, JSON as text.
        told: what the agent's strategy writes into that tool message, if not the value.
    """
    draft = cast(AIMessage, result[0])
    value = form.read(answer.text)
    about = {"response_metadata": answer.response_metadata, "usage_metadata": answer.usage_metadata}
    if not draft.tool_calls:
        return [AIMessage(answer.text, id=draft.id, name=draft.name, **about)], value
    called = {**draft.tool_calls[0], "args": json.loads(_without_fence(answer.text))}
    message = AIMessage(draft.text, id=draft.id, name=draft.name, tool_calls=[called], **about)
    content = told or f"Returning structured response: {value}"
    rest = [m.model_copy(update={"content": content}) for m in result[1:]]
    return [message, *rest], value


def _checker(schema: Mapping[str, Any]) -> Any:
    from tpo_graph.rewards.json_schema import JsonSchemaReward

    return JsonSchemaReward(schema).violation


class FittingReward:
    """A reward model that sees JSON of a form, and cannot score anything else."""

    def __init__(self, reward_model: RewardModel, form: StructuredForm) -> None:
        self._inner = reward_model
        self._form = form
        self.name = reward_model.name
        self.title = title_of(reward_model)
        self.nameless = getattr(reward_model, "nameless", None)

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`.

        Raises:
            RewardInputError: one of the responses breaks the schema.
        """
        texts: list[str] = []
        for response in responses:
            try:
                texts.append(self._form.write(self._form.read(response)))
            except ValueError as error:
                raise RewardInputError(f"the response breaks the schema: {error}") from error
        return list(await self._inner.score(conversation, texts))

"""A scripted model that calls tools, and what the agents' tests share."""

import re
from collections.abc import Sequence
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool

from tpo_graph.testing import ScriptedChatModel

CUES = ("tool", "weather", "joke")
"""Words in a question that make the model call the tool it has."""


class ToolCallingModel(ScriptedChatModel):
    """Calls its first tool when it must, or when the question has a cue; else it answers.

    It reports usage as providers do and streams its answers word by word.
    """

    temperature: float | None = 0.5

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        schemas = [convert_to_openai_tool(tool) for tool in tools]
        return self.bind(tools=schemas, tool_choice=tool_choice, **kwargs)

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        tool = self._wanted(messages, kwargs.get("tools") or [], kwargs.get("tool_choice"))
        if tool is None:
            result = super()._generate(messages, *args, **kwargs)
            for generation in result.generations:
                self._report(generation.message, messages)
            return result
        self.calls.append((messages, {"tools": kwargs["tools"], "n": 1}))
        arguments = {
            name: _value(name, schema, messages[-1].text)
            for name, schema in tool["parameters"].get("properties", {}).items()
        }
        call = {"name": tool["name"], "args": arguments, "id": "call-1", "type": "tool_call"}
        message = AIMessage("Let me look.", tool_calls=[call])
        self._report(message, messages)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        message = self._generate(messages, *args, **kwargs).generations[0].message
        rest = message.model_dump(exclude={"type", "content"})
        words = re.findall(r"\S+\s*", message.text)
        for word in words[:-1]:
            yield ChatGenerationChunk(message=AIMessageChunk(word))
        last = AIMessageChunk("".join(words[-1:]), **rest)
        yield ChatGenerationChunk(message=last)

    def _wanted(self, messages: list[BaseMessage], tools: list[Any], choice: Any) -> Any:
        by_name = {tool["function"]["name"]: tool["function"] for tool in tools}
        if not by_name or isinstance(messages[-1], ToolMessage):
            return None
        if choice in by_name:
            return by_name[choice]
        cued = any(cue in messages[-1].text.lower() for cue in CUES)
        return next(iter(by_name.values())) if choice == "any" or cued else None

    def _report(self, message: BaseMessage, messages: list[BaseMessage]) -> None:
        assert isinstance(message, AIMessage)
        sent = sum(len(m.text.split()) for m in messages)
        written = len(message.text.split())
        message.response_metadata = {"model_name": "scripted-1"}
        message.usage_metadata = {
            "input_tokens": sent,
            "output_tokens": written,
            "total_tokens": sent + written,
        }


def _value(name: str, schema: dict[str, Any], question: str) -> Any:
    if schema.get("type") == "integer":
        return int((re.findall(r"\d+", question) or ["1"])[0])
    return (re.findall(r"'([^']+)'", question) or [f"some {name}"])[0]

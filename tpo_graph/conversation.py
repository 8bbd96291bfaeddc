"""The query: a LangChain message list as plain turns, as text for prompts, and as cache keys.

The whole conversation, system prompt and history included, is what is answered. It reaches the
policy as messages (tool use in words); the reward model as turns; the critic's prompts as text.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import NotRequired, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage, ToolMessage

from tpo_graph.errors import ConfigurationError

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "user"}
_HEADINGS = {"user": "User", "assistant": "Assistant", "system": "System"}


class Turn(TypedDict):
    """One message in the form that chat templates and HTTP servers take."""

    role: str
    """"system", "user" or "assistant"."""
    content: str
    """Plain text."""
    tool: NotRequired[str]
    """Set when a tool said this instead of the person: the tool's name."""


def turns(messages: Sequence[AnyMessage] | Sequence[BaseMessage]) -> list[Turn]:
    """The conversation as role and text, in order.

    Tool calls and tool results become text of the assistant and the user: reward models' chat
    templates rarely know the role "tool".
    """
    return [_turn(message) for message in messages]


def _turn(message: BaseMessage) -> Turn:
    turn = Turn(role=_ROLES.get(message.type, "user"), content=_text(message))
    return {**turn, "tool": message.name or "tool"} if isinstance(message, ToolMessage) else turn


def without_tools(messages: Sequence[AnyMessage] | Sequence[BaseMessage]) -> list[BaseMessage]:
    """The conversation with tool calls and tool results as text of the assistant and the user.

    Some providers refuse tool messages from a caller that declares no tools, and first samples
    declare none: they are answers. All other messages stay as they are.
    """
    return [_in_words(message) for message in messages]


def _in_words(message: BaseMessage) -> BaseMessage:
    if isinstance(message, AIMessage) and message.tool_calls:
        return AIMessage(_text(message))
    return HumanMessage(_text(message)) if isinstance(message, ToolMessage) else message


def _text(message: BaseMessage) -> str:
    text = message.text
    if isinstance(message, AIMessage) and message.tool_calls:
        calls = [f"{c['name']}({json.dumps(c['args'], default=str)})" for c in message.tool_calls]
        return "\n".join([*([text] if text else []), "Called: " + ", ".join(calls)])
    if isinstance(message, ToolMessage):
        return f"Result of {message.name or 'the tool'}: {text}"
    if not text and message.content:
        return json.dumps(message.content, default=str)[:2_000]
    return text


def query_text(messages: Sequence[AnyMessage] | Sequence[BaseMessage]) -> str:
    """The text of the last message of the person asking.

    Raises:
        ConfigurationError: there is no such message, or it is empty.
    """
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            text = _text(message)
            if not text.strip():
                raise ConfigurationError(
                    f"the query is empty: {text!r}. Give the model something to answer."
                )
            return text
    kinds = [message.type for message in messages]
    raise ConfigurationError(
        f"no user message to answer among {kinds!r}. "
        'Pass {"messages": [("user", "your question")]}.'
    )


def transcript(conversation: Sequence[Turn]) -> str:
    """The conversation as text for a prompt: a lone user message as it is, else with headings."""
    if len(conversation) == 1:
        return conversation[0]["content"]
    return "\n\n".join(
        f"{_HEADINGS.get(turn['role'], turn['role'])}:\n{turn['content']}" for turn in conversation
    )


def well_formed(text: str) -> str:
    """The text with half characters replaced, which no tokenizer and no JSON parser would take.

    A reply that was cut in the middle of an emoji ends with half of it, and is still a str.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def conversation_key(conversation: Sequence[Turn]) -> str:
    """A digest that identifies the conversation in the score cache (64 hex digits)."""
    plain = [[turn["role"], turn["content"]] for turn in conversation]
    return _digest(json.dumps(plain, ensure_ascii=True, separators=(",", ":")))


def response_key(response: str) -> str:
    """A digest that identifies a response in the score cache (64 hex digits)."""
    return _digest(response)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

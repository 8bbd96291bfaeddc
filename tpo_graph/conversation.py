"""The query: a LangChain message list as plain turns, as text for prompts, and as cache keys.

The whole conversation, system prompt and history included, is what is answered. It reaches the
policy as messages (tool use in words); the reward model as turns; the critic's prompts as text.
Pictures, sound and files reach the policy, which answers and rewrites, as they are; the critic and
the reward model in words.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NotRequired, TypedDict, cast

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    MessageLikeRepresentation,
    ToolMessage,
    convert_to_messages,
)
from langchain_core.messages.tool import invalid_tool_call
from pydantic import ValidationError

from tpo_graph.errors import ConfigurationError

Query = str | BaseMessage | Mapping[str, Any] | Sequence[MessageLikeRepresentation]
"""A question, a message, or a conversation in any form that LangChain takes: messages, dictionaries
with role and content, pairs of role and content."""

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


def as_messages(query: Query) -> list[BaseMessage]:
    """The conversation that a query stands for.

    Raises:
        ConfigurationError: it has no form that LangChain takes, or nothing in it to answer.
    """
    messages = converted(query)
    query_text(messages)
    return messages


def converted(given: Query) -> list[BaseMessage]:
    """Messages in any form that LangChain takes, as its own."""
    try:
        # The letters of a text and the keys of a message are sequences of texts, too.
        one = isinstance(given, str | BaseMessage | Mapping)
        many = [given] if one else given
        many = [_takeable(m) for m in many] if isinstance(many, list | tuple) else many
        return convert_to_messages(cast("Sequence[MessageLikeRepresentation]", many))
    except (TypeError, ValueError, NotImplementedError, AttributeError, KeyError) as error:
        raise ConfigurationError(
            f"not a conversation: {repr(given)[:200]}{_where(error)}. Give a text, or messages "
            'such as [{"role": "user", "content": "..."}].'
        ) from error


def _takeable(message: Any) -> Any:
    """A message that calls tools in OpenAI's form, as LangChain takes it; any other as it is.

    In OpenAI's form it needs no content, and arguments are whatever the model wrote; LangChain
    wants a content, and a JSON object.
    """
    if not isinstance(message, dict) or cast("dict[str, Any]", message).get("role") != "assistant":
        return cast("Any", message)
    told = cast("dict[str, Any]", message)
    calls: Any = told.get("tool_calls") or []
    if not calls and not told.get("function_call"):
        return told
    broken = [call for call in calls if _is_broken(call)]
    sound = [call for call in calls if call not in broken]
    (made,) = convert_to_messages([{"content": "", **told, "tool_calls": sound}])
    kept = [
        invalid_tool_call(name=said.get("name"), args=said["arguments"], id=call.get("id"))
        for call in broken
        if (said := call["function"])
    ]
    return made.model_copy(update={"invalid_tool_calls": kept}) if kept else made


def _is_broken(call: Any) -> bool:
    """Whether the arguments of a call are a text, and no JSON object."""
    try:
        text = call["function"]["arguments"]
        return isinstance(text, str) and not isinstance(json.loads(text, strict=False), dict)
    except (KeyError, TypeError):
        return False
    except (ValueError, RecursionError):
        return True


def _where(error: Exception) -> str:
    """What of a message is wrong, as far as LangChain says so."""
    if isinstance(error, ValidationError):  # whose own text is about LangChain's classes
        first = error.errors(include_url=False)[0]
        return f": {first['loc'][0]!r}: {first['msg']}" if first["loc"] else ""
    return f": a message lacks {error}" if isinstance(error, KeyError) else ""


def from_turns(conversation: Iterable[Turn]) -> list[BaseMessage]:
    """A conversation as LangChain messages."""
    return convert_to_messages([(turn["role"], turn["content"]) for turn in conversation])


def turns(messages: Sequence[AnyMessage] | Sequence[BaseMessage]) -> list[Turn]:
    """The conversation as role and text, in order.

    Tool calls and tool results become text of the assistant and the user: reward models' chat
    templates rarely know the role "tool". Results that follow each other are one turn, as are a
    result and what the person says after it: many templates want user and assistant to alternate.
    """
    found: list[Turn] = []
    for message in messages:
        turn = _turn(message)
        if found and "tool" in found[-1] and turn["role"] == "user":
            both = f"{found[-1]['content']}\n\n{turn['content']}"
            tool = {"tool": found[-1].get("tool", "tool")} if "tool" in turn else {}
            found[-1] = cast(Turn, {"role": "user", "content": both, **tool})
        else:
            found.append(turn)
    return found


def _turn(message: BaseMessage) -> Turn:
    turn = Turn(role=_ROLES.get(message.type, "user"), content=well_formed(_text(message)))
    return {**turn, "tool": message.name or "tool"} if isinstance(message, ToolMessage) else turn


def without_tools(messages: Sequence[AnyMessage] | Sequence[BaseMessage]) -> list[BaseMessage]:
    """The conversation with tool calls and tool results as text of the assistant and the user.

    Some providers refuse tool messages from a caller that declares no tools, and first samples
    declare none: they are answers. Results that follow each other are one message. All other
    messages stay as they are, but for characters that no provider takes.
    """
    found: list[BaseMessage] = []
    after_tool = False
    for message in messages:
        now = _in_words(message)
        tool = isinstance(message, ToolMessage)
        if after_tool and isinstance(now, HumanMessage):
            blocks = [*_blocks(found[-1]), *_blocks(now)]
            texts = [block["text"] for block in blocks if block["type"] == "text"]
            plain = len(texts) == len(blocks)
            found[-1] = HumanMessage("\n\n".join(texts) if plain else cast("Any", blocks))
        else:
            found.append(now)
        after_tool = tool
    return found


def _in_words(message: BaseMessage) -> BaseMessage:
    if isinstance(message, AIMessage) and _called(message):
        return AIMessage(well_formed(_text(message)))
    if isinstance(message, ToolMessage):
        said = well_formed(_text(message))
        seen = [block for block in _blocks(message) if not _is_words(block)]
        return HumanMessage(cast("Any", [{"type": "text", "text": said}, *seen]) if seen else said)
    content = clean(message.content)
    return (
        message if content == message.content else message.model_copy(update={"content": content})
    )


def attachments(messages: Sequence[AnyMessage] | Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """The pictures, sounds and files of the conversation, as content blocks, in order."""
    users = (m for m in messages if isinstance(m, HumanMessage | ToolMessage))
    return [block for message in users for block in _blocks(message) if not _is_words(block)]


def attached(messages: Iterable[BaseMessage], blocks: list[dict[str, Any]]) -> list[BaseMessage]:
    """A prompt whose first user turn carries content blocks beside its text."""
    found = list(messages)
    place = next((i for i, m in enumerate(found) if isinstance(m, HumanMessage)), None)
    if blocks and place is not None:
        content: Any = [{"type": "text", "text": str(found[place].text)}, *blocks]
        found[place] = found[place].model_copy(update={"content": content})
    return found


def _blocks(message: BaseMessage) -> list[dict[str, Any]]:
    """Content as blocks, a plain text as one."""
    content = message.content
    parts: list[Any] = [content] if isinstance(content, str) else list(content)
    return [
        {"type": "text", "text": part} if isinstance(part, str) else cast("dict[str, Any]", part)
        for part in parts
        if part
    ]


_THOUGHTS = {"reasoning", "thinking", "redacted_thinking", "reasoning_content"}
_CALLS = {"tool_use", "tool_call", "tool_call_chunk", "function_call", "server_tool_call"}


def _is_words(block: Mapping[str, Any]) -> bool:
    return block.get("type") in {"text", *_THOUGHTS, *_CALLS}


def _said(block: Mapping[str, Any]) -> str:
    """A block in words: its text, or what it is."""
    kind = str(block.get("type", "content"))
    if kind == "text":
        return str(block.get("text", ""))
    if kind in _THOUGHTS | _CALLS:
        return ""
    for name in ("image", "audio", "video", "file", "document"):
        if name in kind:
            return f"[{name}]"
    return f"[{kind}]"


def _called(message: AIMessage) -> list[str]:
    """The calls that a message makes, in words: broken ones too, which some servers refuse."""
    calls = [
        f"{call['name']}({json.dumps(call['args'], default=str)})" for call in message.tool_calls
    ]
    calls += [f"{call['name']}({call['args']})" for call in message.invalid_tool_calls]
    if not calls:
        raw: Any = message.additional_kwargs.get("tool_calls") or []
        for call in cast("list[dict[str, Any]]", raw):
            function: dict[str, Any] = call.get("function") or {}
            calls.append(f"{function.get('name')}({function.get('arguments')})")
    return calls


def _text(message: BaseMessage) -> str:
    content = message.content
    blocks = _blocks(message)
    if isinstance(content, str) or all(map(_is_words, blocks)):
        said = str(message.text)
    else:
        said = "\n".join(filter(None, map(_said, blocks)))
    if isinstance(message, AIMessage) and (calls := _called(message)):
        return "\n".join([*([said] if said else []), "Called: " + ", ".join(calls)])
    if isinstance(message, ToolMessage):
        return f"Result of {message.name or 'the tool'}: {said}"
    return said


def clean(content: Any) -> Any:
    """Content, or any other JSON, without characters that no provider and no client takes."""
    if isinstance(content, str):
        return well_formed(content)
    if isinstance(content, list):
        return [clean(each) for each in cast("list[Any]", content)]
    if isinstance(content, dict):
        return {key: clean(each) for key, each in cast("dict[str, Any]", content).items()}
    return content


def query_text(messages: Sequence[AnyMessage] | Sequence[BaseMessage]) -> str:
    """The text of the last message of the person asking.

    Raises:
        ConfigurationError: there is no such message, or it is empty.
    """
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            return asked(_text(message))
    kinds = [message.type for message in messages]
    raise ConfigurationError(
        f"no user message to answer among {kinds!r}. "
        'Pass {"messages": [("user", "your question")]}.'
    )


def asked(text: str) -> str:
    """The query itself; an empty one is refused."""
    if not text.strip():
        raise ConfigurationError(
            f"the query is empty: {text!r}. Give the model something to answer."
        )
    return text


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


def storable(text: str) -> str:
    """The text as databases and checkpoints can hold it: `well_formed`, and without NUL."""
    return well_formed(text).replace("\0", "\ufffd")


def conversation_key(conversation: Sequence[Turn]) -> str:
    """A digest that identifies the conversation in the score cache (64 hex digits)."""
    plain = [[turn["role"], turn["content"]] for turn in conversation]
    return _digest(json.dumps(plain, ensure_ascii=True, separators=(",", ":")))


def response_key(response: str) -> str:
    """A digest that identifies a response in the score cache (64 hex digits)."""
    return _digest(response)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

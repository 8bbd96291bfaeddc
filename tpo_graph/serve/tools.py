"""Tools as clients describe them, in the one form that every model's server takes: functions.

Cursor's agent describes functions as the Responses API does ("flat") in requests for chat
completions, and has tools that take free text instead of JSON ("custom"), such as a patch. A custom
tool becomes a function of one text, and a call of it is told with that text as its arguments, which
is how Cursor reads it.
"""

import json
from collections.abc import Mapping
from typing import Any, cast

_TEXT = "input"
"""The parameter of the function that stands for a custom tool."""


def as_functions(body: Mapping[str, Any]) -> tuple[dict[str, Any], frozenset[str]]:
    """The request with all its tools, and all calls of them, as functions.

    Returns:
        The request, and the names of the tools that take free text.
    """
    found, given = dict(body), body.get("tools")
    if not isinstance(given, list):
        return found, frozenset()
    tools = [
        cast("dict[str, Any]", tool) for tool in cast("list[object]", given)
        if isinstance(tool, dict)
    ]  # fmt: skip
    custom = frozenset(
        str(_described(tool).get("name")) for tool in tools if tool.get("type") == "custom"
    )
    found["tools"] = [_function(tool) for tool in tools]
    choice = body.get("tool_choice")
    if isinstance(choice, dict):
        found["tool_choice"] = _chosen(cast("dict[str, Any]", choice))
    messages = body.get("messages")
    if custom and isinstance(messages, list):
        found["messages"] = [_wrapped(each, custom) for each in cast("list[Any]", messages)]
    return found, custom


def free_text(completion: dict[str, Any], custom: frozenset[str]) -> dict[str, Any]:
    """A completion whose calls of custom tools have their text as arguments."""
    choices = [
        {**choice, "message": _unwrapped(choice["message"], custom)}
        for choice in completion.get("choices") or ()
    ]
    return {**completion, "choices": choices} if custom else completion


def _described(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Name, description and so on, which stand in the tool itself or one level below."""
    inner = tool.get(str(tool.get("type")))
    return cast("dict[str, Any]", inner) if isinstance(inner, dict) else dict(tool)


def _function(tool: dict[str, Any]) -> dict[str, Any]:
    told = _described(tool)
    if tool.get("type") == "custom":
        form = told.get("format")
        words = [told.get("description"), f"Format: {json.dumps(form)}" if form else None]
        told = {
            "name": told.get("name"),
            "description": "\n\n".join(word for word in words if word),
            "parameters": {
                "type": "object",
                "properties": {_TEXT: {"type": "string"}},
                "required": [_TEXT],
            },
        }
    elif tool.get("type") != "function":
        return tool
    known = ("name", "description", "parameters", "strict")
    return {
        "type": "function",
        "function": {name: told[name] for name in known if told.get(name) is not None},
    }


def _chosen(choice: dict[str, Any]) -> dict[str, Any]:
    if choice.get("type") not in ("function", "custom"):
        return choice
    return {"type": "function", "function": {"name": _described(choice).get("name")}}


def _wrapped(message: Any, custom: frozenset[str]) -> Any:
    """A message whose calls of custom tools are calls of functions."""
    told = cast("dict[str, Any]", message) if isinstance(message, dict) else {}
    made = told.get("tool_calls")
    if not isinstance(made, list) or not all(
        isinstance(call, dict) for call in cast("list[object]", made)
    ):
        return cast("Any", message)
    calls: list[dict[str, Any]] = []
    for call in cast("list[dict[str, Any]]", made):
        inner = _described(call)
        text = inner.get("input", inner.get("arguments"))
        if str(inner.get("name")) in custom and _inside(text) is None:
            text = json.dumps({_TEXT: text})
        function = {"name": inner.get("name"), "arguments": text}
        calls.append({"id": call.get("id"), "type": "function", "function": function})
    return {**told, "tool_calls": calls}


def _unwrapped(message: dict[str, Any], custom: frozenset[str]) -> dict[str, Any]:
    calls: list[dict[str, Any]] = []
    for call in message.get("tool_calls") or ():
        function: dict[str, Any] = call.get("function") or {}
        if function.get("name") in custom and (text := _inside(function.get("arguments"))):
            function = {**function, "arguments": text}
        calls.append({**call, "function": function})
    return {**message, "tool_calls": calls} if calls else message


def _inside(arguments: Any) -> str | None:
    """The free text in a function's arguments; None if they are something else."""
    try:
        found: Any = json.loads(arguments)
    except (TypeError, ValueError):
        return None
    text = cast("dict[str, Any]", found).get(_TEXT) if isinstance(found, dict) else None
    return text if isinstance(text, str) else None

"""A request of the Responses API in the words of chat completions, which all the rest speaks."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from tpo_graph.serve.refusals import invalid

_SAME = (
    "model", "stream", "temperature", "top_p", "tpo", "parallel_tool_calls", "seed", "stop",
    "top_logprobs",
)  # fmt: skip
_STATEFUL = ("previous_response_id", "conversation", "prompt", "background")
"""What would need conversations kept here."""


def chat_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body of the same request to `/v1/chat/completions`.

    Raises:
        Refusal: it needs what this server does not have.
    """
    for name in _STATEFUL:
        if body.get(name):
            raise invalid(
                f"{name} is not available: this server keeps no conversations. Send the whole "
                "conversation as input.",
                name,
                "unsupported_parameter",
            )
    found = {name: body[name] for name in _SAME if body.get(name) is not None}
    found["messages"] = [*_instructions(body), *_messages(body.get("input"))]
    if body.get("stream"):
        found["stream_options"] = {"include_usage": True}
    if body.get("max_output_tokens") is not None:
        found["max_completion_tokens"] = body["max_output_tokens"]
    if tools := body.get("tools"):
        found["tools"] = [_tool(tool) for tool in _objects(tools, "tools")]
        if (choice := body.get("tool_choice")) is not None:
            found["tool_choice"] = choice
    text = body.get("text")
    form = cast("Mapping[str, Any]", text).get("format") if isinstance(text, Mapping) else None
    if isinstance(form, Mapping):
        told = dict(cast("Mapping[str, Any]", form))
        kind = told.pop("type", "text")
        found["response_format"] = {
            "type": kind,
            **({"json_schema": told} if kind == "json_schema" else {}),
        }
    return found


def _instructions(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    told = body.get("instructions")
    if told is None:
        return []
    if not isinstance(told, str):
        raise invalid(f"instructions must be a text, not {told!r:.200}", "instructions")
    return [{"role": "system", "content": told}]


def _messages(given: object) -> list[dict[str, Any]]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    found: list[dict[str, Any]] = []
    for item in _objects(given, "input"):
        kind = item.get("type", "message")
        if kind == "message":
            role = item.get("role", "user")
            found.append({"role": role, "content": _content(item.get("content"))})
        elif kind in ("function_call", "custom_tool_call"):
            said = item.get("input") if kind == "custom_tool_call" else item.get("arguments")
            call = {
                "id": item.get("call_id"),
                "type": "function",
                "function": {"name": item.get("name"), "arguments": said},
            }
            if not found or found[-1]["role"] != "assistant":
                found.append({"role": "assistant", "content": ""})
            found[-1].setdefault("tool_calls", []).append(call)
        elif kind in ("function_call_output", "custom_tool_call_output"):
            told = item.get("output")
            text = told if isinstance(told, str) else _content(told)
            found.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": text})
        elif kind != "reasoning":  # an earlier answer's progress: no part of the conversation
            raise invalid(f"input items of type {kind!r:.100} are not supported", "input")
    return found


def _content(content: object) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    parts = [_part(part) for part in _objects(content, "input")]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "\n".join(texts) if len(texts) == len(parts) else parts


def _part(part: dict[str, Any]) -> dict[str, Any]:
    kind = part.get("type")
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": str(part.get("text", ""))}
    if kind == "refusal":
        return {"type": "text", "text": str(part.get("refusal", ""))}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        image = {"url": part["image_url"]}
        if part.get("detail") is not None:
            image["detail"] = part["detail"]
        return {"type": "image_url", "image_url": image}
    if kind == "input_file" and part.get("file_data") is not None:
        file = {name: part[name] for name in ("filename", "file_data") if part.get(name)}
        return {"type": "file", "file": file}
    raise invalid(f"content of type {kind!r:.100} is not supported in this form", "input")


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") not in ("function", "custom"):
        raise invalid(
            f"tools of type {tool.get('type')!r:.100} are not available: this server runs none of "
            "its own. Give functions.",
            "tools",
            "unsupported_parameter",
        )
    return tool


def _objects(given: object, param: str) -> Iterable[dict[str, Any]]:
    if not isinstance(given, list) or not all(
        isinstance(each, dict) for each in cast("list[object]", given)
    ):
        raise invalid(f"{param} must be a list of objects, not {given!r:.200}", param)
    return cast("list[dict[str, Any]]", given)

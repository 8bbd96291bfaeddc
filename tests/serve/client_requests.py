"""Requests in the shape in which well-known clients send them, in words of our own.

The fields are those that the clients' public sources name:

- Open WebUI: `backend/open_webui/routers/openai.py` and `tasks.py` of open-webui/open-webui, which
  takes `metadata` out before it sends; titles, tags and follow-up questions are tasks of the model
  that is set for them.
- LibreChat: `packages/api/src/endpoints/openai/llm.ts` of danny-avila/LibreChat; it speaks through
  LangChain for JavaScript, so absent options are null or left out.
- Continue: `core/llm/openaiTypeConverters.ts` (`toChatBody`) and
  `packages/openai-adapters/src/apis/OpenAI.ts` of continuedev/continue.
- Cursor is closed. Its users and those who build proxies for it have told what it sends: in Ask
  mode chat completions with some flat tools, in Agent mode a body of the Responses API to the path
  of chat completions (forum.cursor.com/t/153019 and /t/159298; BerriAI/litellm#34029), with a patch
  tool of free text whose call it reads from `function.arguments`
  (icebear0828/codex-proxy#708).
"""

from typing import Any

PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}

OPEN_WEBUI_CHAT: dict[str, Any] = {
    "stream": True,
    "model": "tpo/policy",
    "messages": [
        {"role": "system", "content": "The person is called Max."},
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hello, Max."},
        {"role": "user", "content": [{"type": "text", "text": "What is on it?"}, PICTURE]},
    ],
    "temperature": 0.8,
    "top_p": 0.9,
    "max_tokens": 512,
    "frequency_penalty": 0.0,
    "stop": ["###"],
    "stream_options": {"include_usage": True},
    "user": {"name": "Max", "id": "1", "email": "max@example.org", "role": "user"},
}

OPEN_WEBUI_TITLE: dict[str, Any] = {
    "model": "policy",
    "messages": [{"role": "user", "content": "### Task:\nGenerate a title with an emoji."}],
    "stream": False,
    "max_completion_tokens": 1000,
}

LIBRECHAT: dict[str, Any] = {
    "model": "tpo/policy",
    "temperature": 1,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "n": 1,
    "logit_bias": None,
    "stop": None,
    "user": "6650f0",
    "stream": True,
    "stream_options": {"include_usage": True},
    "messages": [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": [{"type": "text", "text": "Why is the sky blue?"}]},
    ],
}

CONTINUE: dict[str, Any] = {
    "model": "tpo/policy",
    "messages": [
        {"role": "system", "content": "You write code."},
        {"role": "user", "content": "Reverse a list."},
        {"role": "assistant", "content": " "},
        {"role": "user", "content": "In Python."},
    ],
    "max_tokens": 4096,
    "stream": True,
    "stream_options": {"include_usage": True},
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "read_file",
                "description": "Read a file.",
                "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
            },
        }
    ],
    "parallel_tool_calls": False,
}

_FLAT: dict[str, Any] = {
    "type": "function",
    "name": "read_file",
    "description": "Read a file.",
    "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
    "strict": False,
}
_PATCH: dict[str, Any] = {
    "type": "custom",
    "name": "ApplyPatch",
    "description": "Apply a patch.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}

CURSOR_ASK: dict[str, Any] = {
    "model": "tpo/policy",
    "temperature": 1,
    "user": "user_1",
    "stream": True,
    "stream_options": {"include_usage": True},
    "messages": [
        {"role": "system", "content": "You help in an editor."},
        {"role": "user", "content": "What does a.py print?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "read_file", "arguments": '{"path": "a.py"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "print(42)"},
    ],
    "tools": [*CONTINUE["tools"], {**_FLAT, "name": "list_dir"}],
    "tool_choice": "auto",
}

CURSOR_AGENT: dict[str, Any] = {
    "model": "tpo/policy",
    "input": [
        {"role": "system", "content": "You are an agent in an editor."},
        {"role": "user", "content": [{"type": "input_text", "text": "Greet in a.py."}]},
        {
            "type": "function_call",
            "call_id": "call_1",
            "name": "ApplyPatch",
            "arguments": "*** Begin Patch one",
        },
        {"type": "function_call_output", "call_id": "call_1", "output": "Failed: no such file."},
    ],
    "tools": [_FLAT, _PATCH],
    "tool_choice": "auto",
    "stream": True,
    "stream_options": {"include_usage": True},
    "store": False,
    "include": ["reasoning.encrypted_content"],
    "reasoning": {"effort": "medium", "summary": "auto"},
    "text": {"verbosity": "low"},
    "prompt_cache_retention": "24h",
    "previous_response_id": None,
    "truncation": "auto",
    "user": "user_1",
}

"""LiteLLM against a running server: litellm_client.py BASE_URL MODEL; prints JSON."""

import importlib
import json
import sys
from typing import Any

litellm: Any = importlib.import_module("litellm")
TOLD: dict[str, Any] = {
    "api_base": sys.argv[1],
    "api_key": "any",
    "model": f"openai/{sys.argv[2]}",
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
    "num_retries": 0,
}


def main() -> None:
    whole = litellm.completion(**TOLD, extra_body={"tpo": {"depth": 1}})
    streamed, progress = "", ""
    for chunk in litellm.completion(**TOLD, extra_body={"tpo": {"depth": 1}}, stream=True):
        delta = chunk.choices[0].delta
        streamed += delta.content or ""
        progress += getattr(delta, "reasoning_content", None) or ""
    refused = None
    try:
        litellm.completion(**TOLD, extra_body={"tpo": {"dept": 1}})
    except litellm.BadRequestError as error:
        refused = [type(error).__name__, error.status_code]
    told = {
        "whole": whole.choices[0].message.content,
        "reasoning": whole.choices[0].message.reasoning_content,
        "tokens": whole.usage.total_tokens,
        "streamed": streamed,
        "progress": progress,
        "refused": refused,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()

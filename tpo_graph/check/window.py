"""The context window that a model server tells in its list of models."""

from typing import Any, cast

from langchain_core.language_models import BaseChatModel

from tpo_graph.models.load import model_name
from tpo_graph.models.loops import handle

_NAMES = ("max_model_len", "context_window", "context_length", "max_context_length")
"""As vLLM and SGLang, Groq, OpenRouter and Together, and Mistral call it."""
_SECONDS = 10.0


async def served_window(policy: BaseChatModel) -> int | None:
    """Tokens, of a policy behind an OpenAI client; None where the server does not tell or answer.

    OpenAI itself does not. A server that is away is reported by the checks that sample.
    """
    client: Any = getattr((await handle(policy)).model, "root_async_client", None)
    if client is None:
        return None
    try:
        listed = await client.models.list(timeout=_SECONDS)
    except Exception:  # a list that is refused, odd or late is no finding
        return None
    name = model_name(policy).partition(":")[2]
    for served in cast("list[Any]", listed.data or []):
        if served.id == name:
            told: dict[str, object] = served.model_extra or {}
            meta = told.get("meta")  # llama.cpp's server
            if isinstance(meta, dict):
                told = {_NAMES[0]: cast("dict[str, object]", meta).get("n_ctx"), **told}
            found = (told.get(field) for field in _NAMES)
            return next((size for size in found if isinstance(size, int) and size > 0), None)
    return None

"""From a name to a chat model: "provider:model", or "local:PATH_OR_HUB_ID".

Names come from the caller, the context or the command line; keys and base URLs from the provider's
own environment variables (OPENAI_API_KEY, OPENAI_BASE_URL, ...).
"""

import os
import threading
import warnings
from functools import lru_cache
from typing import Any, cast

from langchain_core.language_models import BaseChatModel

from tpo_graph.errors import ConfigurationError
from tpo_graph.models.failures import one_line

LOCAL = "local:"

_TIMEOUT = 600.0
"""Seconds: long enough for N long samples on a busy server."""
_RETRIES = 4
"""Of one request, after 408, 409, 429, 5xx, a timeout or a lost connection."""

_lock = threading.Lock()


def load_chat_model(spec: str | BaseChatModel) -> BaseChatModel:
    """The chat model that `spec` names; a model is returned as it is.

    A name is loaded once per process, and again when the environment (keys, base URLs) changes.

    Raises:
        ConfigurationError: the name, its package, its key or its files are not usable.
    """
    if isinstance(spec, BaseChatModel):
        return spec
    if not isinstance(spec, str) or not spec.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"not a model: {spec!r}. {_FIX}")
    if spec.startswith(LOCAL):
        with _lock:
            return _local(spec)
    _, colon, name = spec.partition(":")
    if colon and not name.strip():
        raise ConfigurationError(f"no model is named in {spec!r}. {_FIX}")
    with _lock:
        return _remote(spec, frozenset(os.environ.items()))


def model_name(model: BaseChatModel) -> str:
    """A stable name to show and to store, such as "openai:gpt-5-mini"; it holds no secrets."""
    attributes = ("model_name", "model", "model_id", "deployment_name")
    name = next((n for a in attributes if isinstance(n := getattr(model, a, None), str) and n), "")
    module = type(model).__module__
    package = module.partition(".")[0]
    if module == "tpo_graph.models.local":
        provider = LOCAL.rstrip(":")
    elif package.startswith("langchain_") and package != "langchain_core":
        provider = package.removeprefix("langchain_")
    else:
        provider = type(model).__name__
    return f"{provider}:{name}" if name else provider


_FIX = (
    'Name it as "provider:model" ("openai:gpt-5-mini"; OPENAI_BASE_URL points it at any compatible '
    'server) or "local:PATH_OR_HUB_ID".'
)


@lru_cache(maxsize=4)
def _local(spec: str) -> BaseChatModel:
    from tpo_graph.models.local import load_local_chat_model

    return load_local_chat_model(spec.removeprefix(LOCAL))


@lru_cache(maxsize=64)
def _remote(spec: str, environment: frozenset[tuple[str, str]]) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    provider, colon, _ = spec.partition(":")
    options: dict[str, Any] = {}
    if not colon or provider in ("openai", "azure_openai"):
        options = {"max_retries": _RETRIES, "timeout": _TIMEOUT}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about providers inferred from a bare name
            model = cast(BaseChatModel, init_chat_model(spec, **options))
    except ImportError as error:
        raise ConfigurationError(
            f"the provider of {spec!r} is not installed: {one_line(error)}"
        ) from error
    except Exception as error:
        raise ConfigurationError(_unusable(spec, error)) from error
    if getattr(model, "use_responses_api", None) is True:
        raise ConfigurationError(
            f"{spec!r} is served by the Responses API only, which cannot return several samples "
            "of one request. Choose a model of the chat completions API."
        )
    return model


def _unusable(spec: str, error: Exception) -> str:
    text = one_line(error)
    if "credential" in text.lower() or "api_key" in text.lower():
        provider = spec.partition(":")[0] if ":" in spec else "openai"
        variable = f"{provider.upper()}_API_KEY"
        return (
            f"no API key for {spec!r}. Set {variable} (any value does for a local server that asks "
            f"for none, with its address in {provider.upper()}_BASE_URL)."
        )
    if "infer model provider" in text:
        return f"no provider is known for the model {spec!r}. {_FIX}"
    return f"the model {spec!r} cannot be used: {text} {_FIX}"

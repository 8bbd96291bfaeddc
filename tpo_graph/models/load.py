"""From a name to a chat model: "provider:model", or "local:PATH_OR_HUB_ID".

Names come from the caller, the context or the command line; keys and base URLs from the provider's
own environment variables (OPENAI_API_KEY, OPENAI_BASE_URL, ...).
"""

import json
import os
import threading
import warnings
from functools import lru_cache
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.configurable import (
    RunnableConfigurableAlternatives,
    RunnableConfigurableFields,
)
from pydantic import ValidationError

from tpo_graph.errors import ConfigurationError, instead
from tpo_graph.models.connection import clean_key, options_of
from tpo_graph.models.failures import one_line
from tpo_graph.redaction import AMBIGUOUS, is_ambiguous

LOCAL = "local:"

_TIMEOUT = 3600.0
"""Seconds without a byte, which is the whole of a reply: N long samples behind those of many other
runs on a slow server. One that is gone is noticed by the connection itself, in a minute or two."""
_CONNECT_TIMEOUT = 30.0
_RETRIES = 4
"""Of one request, after 408, 409, 429, 5xx, a timeout or a lost connection."""

_lock = threading.Lock()


_OPTIONS = (
    "base_url",
    "api_key",
    "api_key_env",
    "default_headers",
    "extra_body",
    "timeout",
    "max_retries",
)
"""Of a connection."""


def load_chat_model(spec: str | BaseChatModel | Runnable[Any, Any]) -> BaseChatModel:
    """The chat model that `spec` names; a model is returned as it is.

    A name is loaded once per process, and again when the environment (keys, base URLs) changes; it
    may be a `Connected` one, with options of its own.
    What `bind`, `with_config`, `with_retry` or `init_chat_model(configurable_fields=...)` made is
    taken apart: the model, with what was bound as its fields.

    Raises:
        ConfigurationError: the name, its package, its key or its files are not usable.
    """
    if isinstance(spec, BaseChatModel):
        return spec
    if isinstance(spec, Runnable):
        return _unwrapped(spec)
    if not isinstance(spec, str) or not spec.strip():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(f"not a model: {one_line(repr(spec))}. {_FIX}")
    options = options_of(spec)
    if spec.startswith(LOCAL):
        if options:
            raise ConfigurationError(
                f"{sorted(options)!r} given with {str(spec)!r}, which is loaded into this process "
                "and reached over no connection: leave them out."
            )
        with _lock:
            return _local(spec)
    _, colon, name = spec.partition(":")
    if colon and not name.strip():
        raise ConfigurationError(f"no model is named in {spec!r}. {_FIX}")
    spec = str(spec)
    _check_addresses(spec.partition(":")[0])
    try:
        given = json.dumps(options, sort_keys=True)
    except TypeError:  # an HTTP client or another object: what it is worth as a key is unknown
        return _made(spec, options)
    with _lock:
        return _remote(spec, given, frozenset(os.environ.items()))


def _check_addresses(provider: str) -> None:
    """Refuse an address in the environment of which a password would be taken for the host."""
    for name, value in os.environ.items():
        if name.startswith(f"{provider.upper()}_") and is_ambiguous(value):
            raise ConfigurationError(f"{name} {AMBIGUOUS}")


def _unwrapped(given: Runnable[Any, Any]) -> BaseChatModel:
    """The chat model inside a runnable that adds nothing but options to it."""
    kind = type(given).__name__
    if isinstance(given, RunnableBindingBase):
        return _with_bound(load_chat_model(given.bound), dict(given.kwargs))
    if isinstance(given, RunnableConfigurableFields | RunnableConfigurableAlternatives):
        dynamic = cast("RunnableConfigurableFields[Any, Any]", given)
        return load_chat_model(dynamic.prepare()[0])
    # A configurable model of `init_chat_model` hands out its default model's attributes.
    copy = getattr(given, "model_copy", None)
    if kind == "_ConfigurableModel" and copy is not None:
        return load_chat_model(copy())
    if isinstance(given, RunnableWithFallbacks):
        raise ConfigurationError(
            "a model with fallbacks cannot be used: samples of one run must come from one model. "
            "Give the first model itself; its failures are retried."
        )
    if kind == "_ConfigurableModel":
        raise ConfigurationError(
            "a configurable model without a default cannot be used: name one in "
            "init_chat_model(MODEL, configurable_fields=...), or give the model itself."
        )
    raise ConfigurationError(
        f"a {kind} is not a chat model. Give the model itself, without prompts or parsers."
    )


def _with_bound(model: BaseChatModel, bound: dict[str, Any]) -> BaseChatModel:
    """The model with the arguments of `bind` as its fields."""
    if not bound:
        return model
    if tools := bound.keys() & {"tools", "tool_choice", "functions", "function_call"}:
        raise ConfigurationError(
            f"a model with {sorted(tools)!r} bound cannot be used: TPO rewrites text, not calls of "
            "tools. Give the model without bind_tools; in an agent TPOMiddleware does that."
        )
    fields = type(model).model_fields
    aliases = {field.alias: name for name, field in fields.items() if field.alias}
    changes = {aliases.get(name, name): value for name, value in bound.items()}
    others = {name: changes.pop(name) for name in list(changes) if name not in fields}
    if others and "model_kwargs" not in fields:
        raise ConfigurationError(
            f"{sorted(others)!r} was bound to the model with bind(...), and {type(model).__name__} "
            "has no such field. Give the model without it, or with it as its own option."
        )
    if others:
        changes["model_kwargs"] = {**getattr(model, "model_kwargs", {}), **others}
    return model.model_copy(update=changes)


def model_name(model: BaseChatModel) -> str:
    """A stable name to show and to store, such as "openai:gpt-4o-mini"; it holds no secrets."""
    attributes = ("model_name", "model", "model_id", "deployment_name")
    name = next((n for a in attributes if isinstance(n := getattr(model, a, None), str) and n), "")
    module = type(model).__module__
    package = module.partition(".")[0]
    if module == "tpo_graph.local.chat_model":
        provider = LOCAL.rstrip(":")
    elif package.startswith("langchain_") and package != "langchain_core":
        provider = package.removeprefix("langchain_")
    else:
        provider = type(model).__name__
    return f"{provider}:{name}" if name else provider


_FIX = (
    'Name it as "provider:model" ("openai:gpt-4o-mini"; OPENAI_BASE_URL points it at any '
    'compatible server) or "local:PATH_OR_HUB_ID".'
)


@lru_cache(maxsize=4)
def _local(spec: str) -> BaseChatModel:
    from tpo_graph.local.chat_model import load_local_chat_model

    return load_local_chat_model(spec.removeprefix(LOCAL))


@lru_cache(maxsize=64)
def _remote(spec: str, options: str, environment: frozenset[tuple[str, str]]) -> BaseChatModel:
    return _made(spec, json.loads(options))


def _made(spec: str, given: dict[str, Any]) -> BaseChatModel:
    from langchain.chat_models import init_chat_model

    provider, colon, _ = spec.partition(":")
    options: dict[str, Any] = {}
    if not colon or provider in ("openai", "azure_openai"):
        from openai import Timeout

        timeout = Timeout(_TIMEOUT, connect=_CONNECT_TIMEOUT)
        options = {"max_retries": _RETRIES, "timeout": timeout}
    options |= {**_cleaned_environment(provider if colon else "openai"), **given}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about providers inferred from a bare name
            model = cast(BaseChatModel, init_chat_model(spec, **options))
    except ImportError as error:
        raise ConfigurationError(
            f"the provider of {spec!r} is not installed: {one_line(error)}"
        ) from error
    except ValidationError as error:
        # Its own text shows the options, and so the key.
        wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigurationError(
            f"the model {spec!r} cannot be used: {one_line('; '.join(wrong))}"
        ) from None
    except Exception as error:
        raise ConfigurationError(_unusable(spec, error)) from error
    unknown: dict[str, Any] = getattr(model, "model_kwargs", None) or {}
    if strange := sorted(given.keys() & unknown.keys()):
        raise ConfigurationError(
            f"{type(model).__name__} has no option {strange[0]!r} (fields of the request's body go "
            f"into extra_body); {instead(strange[0], _OPTIONS)}"
        )
    if getattr(model, "use_responses_api", None) is True:
        raise ConfigurationError(
            f"{spec!r} is served by the Responses API only, which cannot return several samples "
            "of one request. Choose a model of the chat completions API."
        )
    return model


def _cleaned_environment(provider: str) -> dict[str, Any]:
    """The provider's key and address, where its variables hold more than these."""
    options: dict[str, Any] = {}
    prefix = provider.upper()
    if key := os.environ.get(f"{prefix}_API_KEY"):
        cleaned = clean_key(key, f"{prefix}_API_KEY")
        options |= {} if cleaned == key else {"api_key": cleaned}
    for variable in (f"{prefix}_API_BASE", f"{prefix}_BASE_URL"):
        if url := os.environ.get(variable):
            cleaned = clean_key(url, variable)
            options |= {} if cleaned == url else {"base_url": cleaned}
    return options


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

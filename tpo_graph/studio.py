"""What `langgraph.json` names: the graph for LangGraph Server and Studio, and its checkpointer.

Both read what the command line reads: the `TPO_*` variables, and the TOML file that `TPO_CONFIG`
names, or tpo.toml in the working directory. The options of a run become the defaults of the graph's
context, so Studio's form shows them.
"""

import asyncio
import os
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from langchain_core.messages import HumanMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver

from tpo_graph.cache import Cache
from tpo_graph.context import TPOContext
from tpo_graph.errors import TPOError
from tpo_graph.graph import TPOGraph
from tpo_graph.models.load import load_chat_model
from tpo_graph.rewards import as_reward_model
from tpo_graph.session.setup import Setup
from tpo_graph.settings import Settings, found_config
from tpo_graph.state import TPOInput
from tpo_graph.store import open_store

if TYPE_CHECKING:  # LangGraph Server resolves the name by itself
    from langgraph_sdk.runtime import ServerRuntime

_caches: list[Cache] = []
"""The database's, once the server has opened it."""
_OF_THE_SERVER = re.compile(
    r"__|langgraph_|checkpoint_|(?:thread|run|assistant|graph|cron|user)_id$"
)
"""What LangGraph's own clients put among the options of a run."""


@asynccontextmanager
async def checkpointer() -> AsyncGenerator[BaseCheckpointSaver[Any]]:
    """Checkpoints in the configured database; LangGraph Server enters this once, when it starts.

    The graph is made here too, so that a wrong configuration ends the start with one clear error,
    and models are loaded before the first request.

    Raises:
        ConfigurationError: a setting is wrong, or no model or reward model is configured.
        StoreError: the database cannot be opened.
    """
    settings = await asyncio.to_thread(_settings)
    if settings.database_url is None:
        await _warmed()
        yield InMemorySaver()
        return
    async with open_store(settings.database_url, reuse_scores=settings.score_cache) as store:
        _caches.append(store.cache)
        try:
            await _warmed()
            yield store.checkpointer
        finally:
            _caches.remove(store.cache)


async def graph(runtime: "ServerRuntime[Any] | None" = None) -> TPOGraph:
    """The configured graph, the same one on every call; it has no checkpointer of its own.

    Args:
        runtime: what the server says about the request. LangGraph drops unknown keys of a context
            without a word before a graph sees it; here they can still be seen.

    Raises:
        ConfigurationError: the request's context has a key that is no setting.
    """
    running = None if runtime is None else runtime.execution_runtime
    if running is not None and isinstance(running.context, dict):
        given = cast("dict[str, Any]", running.context)
        known = TPOContext.model_fields
        TPOContext.checked(
            {k: v for k, v in given.items() if k not in known and not _OF_THE_SERVER.match(k)}
        )
    return await asyncio.to_thread(_graph)


async def _warmed() -> None:
    """Load the models, and let those of this process answer once: their first call takes seconds
    longer than others, which the first request would wait for."""
    await asyncio.to_thread(_graph)
    settings = _settings()
    names = (settings.policy_name(), settings.reward_model_name())
    if all(str(name).startswith("local:") for name in names):
        trial = await asyncio.to_thread(_loaded().graph)
        # Two samples, of which one is there, so that both models have something to do.
        asked = TPOInput(messages=[HumanMessage("Hello.")], drafts=["Hello there."])
        with suppress(TPOError):  # whatever is wrong is told when somebody asks
            await trial.ainvoke(asked, context=TPOContext(depth=0, width=2, max_tokens=8))


@cache
def _loaded() -> Setup:
    """The configured models, loaded once for every graph that is made of them."""
    setup = _settings().setup()
    return replace(
        setup,
        model=load_chat_model(setup.model),
        reward_model=as_reward_model(setup.reward_model),
        critic=None if setup.critic is None else load_chat_model(setup.critic),
    )


@cache
def _settings() -> Settings:
    config = os.environ.get("TPO_CONFIG") or found_config()
    return Settings.load({}, None if config == "none" else config)


@cache
def _graph() -> TPOGraph:
    settings = _settings()
    cache = _caches[0] if _caches else None
    return _loaded().graph(cache=cache, defaults=settings.run_options())

"""What `langgraph.json` names: the graph for LangGraph Server and Studio, and its checkpointer.

Both read what the command line reads: the `TPO_*` variables, and the TOML file that `TPO_CONFIG`
names. The options of a run become the defaults of the graph's context, so Studio's form shows them.
"""

import asyncio
import os
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver

from tpo_graph.cache import Cache
from tpo_graph.context import TPOContext
from tpo_graph.graph import TPOGraph
from tpo_graph.settings import Settings
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
        await asyncio.to_thread(_graph)
        yield InMemorySaver()
        return
    async with open_store(settings.database_url, reuse_scores=settings.score_cache) as store:
        _caches.append(store.cache)
        try:
            await asyncio.to_thread(_graph)
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


@cache
def _settings() -> Settings:
    return Settings.load({}, os.environ.get("TPO_CONFIG"))


@cache
def _graph() -> TPOGraph:
    settings = _settings()
    cache = _caches[0] if _caches else None
    return settings.setup().graph(cache=cache, defaults=settings.run_options())

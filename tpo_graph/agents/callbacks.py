"""A chat model's own run in LangChain's callbacks, so that what it runs stands beneath it."""

from contextvars import ContextVar
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    BaseCallbackHandler,
    CallbackManagerForLLMRun,
)
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import ensure_config, get_callback_manager_for_config

RUN: ContextVar[Any] = ContextVar("tpo_chat_model_run", default=None)
"""The run of the model that is called: LangChain does not tell `_stream` about it."""


class Run(NamedTuple):
    """What is needed of a run to put others beneath it."""

    run_id: UUID
    inheritable_handlers: list[BaseCallbackHandler]
    inheritable_tags: list[str]
    inheritable_metadata: dict[str, Any]


def announced(config: RunnableConfig | None) -> RunnableConfig:
    """The config of a streamed call, under which `_stream` finds the run that it belongs to."""
    config = ensure_config(config)
    manager = get_callback_manager_for_config(config)
    run_id = config.get("run_id") or uuid4()
    handlers, tags = manager.inheritable_handlers, manager.inheritable_tags
    RUN.set(Run(run_id, handlers, tags, manager.inheritable_metadata))
    return {**config, "run_id": run_id, "callbacks": manager}


def beneath(
    run_manager: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | Run | None,
) -> AsyncCallbackManager | None:
    """Callbacks for what runs beneath a model's call; LangChain gives them to chains only."""
    if run_manager is None:
        return None
    manager = AsyncCallbackManager(handlers=[], parent_run_id=run_manager.run_id)
    manager.set_handlers(run_manager.inheritable_handlers)
    manager.add_tags(run_manager.inheritable_tags)
    manager.add_metadata(run_manager.inheritable_metadata)
    return manager

"""What LangGraph runs: one async step, callable from its sync and its async side alike."""

from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.runtime import Runtime, get_runtime

from tpo_graph.background import run_in_background
from tpo_graph.context import TPOContext
from tpo_graph.handles import Handles
from tpo_graph.state import StateUpdate, TPOState
from tpo_graph.tracing import log_step

Step = Callable[[TPOState, Runtime[TPOContext], Handles], Awaitable[StateUpdate]]


class Node(Runnable[TPOState, StateUpdate]):
    """A step of the algorithm bound to a graph's handles.

    A plain async function would make `graph.invoke` fail; this gives it a sync side without
    writing any step twice.
    """

    def __init__(self, step: Step, handles: Handles, context: type[TPOContext]) -> None:
        self.name = step.__name__
        self._step = step
        self._handles = handles
        self._context = context

    def invoke(
        self, input: TPOState, config: RunnableConfig | None = None, **kwargs: Any
    ) -> StateUpdate:
        """Run the step on the background loop and wait."""
        return run_in_background(self.ainvoke(input, config))

    async def ainvoke(
        self, input: TPOState, config: RunnableConfig | None = None, **kwargs: Any
    ) -> StateUpdate:
        """Run the step."""
        runtime = get_runtime(TPOContext)
        runtime = runtime.override(context=self._context.of(runtime.context))
        update = await self._step(input, runtime, self._handles)
        log_step(self.name, {**input, **update})  # pyright: ignore[reportArgumentType]
        return update

"""What LangGraph runs: one async step, callable from its sync and its async side alike.

What a model or the reward model breaks after the first selection does not cost the answer: the
error goes into the state, the steps after it do nothing, and `select` ends the run.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.runtime import Runtime, get_runtime

from tpo_graph.concurrency.background import run_in_background
from tpo_graph.concurrency.outages import gave_up, may_pass
from tpo_graph.context import TPOContext
from tpo_graph.errors import PolicyError, RewardError, ServerAwayError, error_line
from tpo_graph.nodes.handles import Handles
from tpo_graph.nodes.tracing import log_step, step_span
from tpo_graph.state import Failure, StateUpdate, TPOState

Step = Callable[[TPOState, Runtime[TPOContext], Handles], Awaitable[StateUpdate]]
_OF_AN_ITERATION = ("loss", "gradient", "update", "reward_score")
"""The steps that ask a model when there may be an answer already."""


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
        later = self.name in _OF_AN_ITERATION
        if later and input.get("failure") is not None:
            return StateUpdate()
        with step_span(self._step.__name__) as after:
            try:
                update = await self._step(input, runtime, self._handles)
            except (PolicyError, RewardError, ServerAwayError) as error:
                if not later or input["chosen"] is None or _is_to_raise(error, runtime):
                    raise
                failure = Failure(
                    step=self._step.__name__, error=error_line(error), may_pass=may_pass(error)
                )
                update = StateUpdate(failure=failure)
            after |= {**input, **update}
        log_step(self.name, after)  # pyright: ignore[reportArgumentType]
        return update


def _is_to_raise(error: Exception, runtime: Runtime[TPOContext]) -> bool:
    """Whether the caller wants it so; or the run's thread is kept, and nothing is wrong but that a
    server was away for too long: then the run is resumed once it is back."""
    info = runtime.execution_info
    kept = info is not None and info.thread_id is not None
    return runtime.context.on_failure == "raise" or (gave_up(error) is not None and kept)

"""What LangGraph runs: one async step, callable from its sync and its async side alike.

What a model or the reward model breaks after the first selection does not cost the answer: the
error goes into the state, the steps after it do nothing, and `select` ends the run.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.runtime import Runtime, get_runtime

from tpo_graph.concurrency.background import run_in_background
from tpo_graph.concurrency.outages import gave_up, may_pass
from tpo_graph.concurrency.shielded import shielded
from tpo_graph.context import TPOContext
from tpo_graph.errors import PolicyError, RewardError, ServerAwayError, StoreError, error_line
from tpo_graph.nodes.handles import Handles
from tpo_graph.nodes.sample import begun_run_id
from tpo_graph.nodes.tracing import log_step, step_span
from tpo_graph.state import Failure, StateUpdate, TPOState
from tpo_graph.usage import Usage, charge, no_usage, spending

Step = Callable[[TPOState, Runtime[TPOContext], Handles], Awaitable[StateUpdate]]
BEFORE = {"loss": "select", "gradient": "loss", "update": "gradient", "reward_score": "update"}
"""The steps that ask a model when there may be an answer already, and the step before each: a run
that one of them ends can be opened again there."""


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
        later = self.name in BEFORE
        if later and input.get("failure") is not None:
            return StateUpdate()
        with step_span(self._step.__name__) as after, spending() as spent:
            try:
                update = await self._step(input, runtime, self._handles)
            except BaseException as error:
                await self._keep(spent, input, runtime)
                if not isinstance(error, PolicyError | RewardError | ServerAwayError):
                    raise
                if not later or input["chosen"] is None or _is_to_raise(error, runtime):
                    raise
                step = self._step.__name__
                failure = Failure(step=step, error=error_line(error), may_pass=may_pass(error))
                usage = charge(input["usage"], step, spent)
                update = StateUpdate(failure=failure, usage=usage)
            after |= {**input, **update}
        log_step(self.name, after)  # pyright: ignore[reportArgumentType]
        return update

    async def _keep(self, spent: Usage, state: TPOState, runtime: Runtime[TPOContext]) -> None:
        """Put on record what a step consumed that did not end, by failing or by being stopped."""
        if spent == no_usage():
            return
        step = self._step.__name__
        run_id = begun_run_id(runtime) if step == "sample" else state["run_id"]
        # What ended the step matters more than a cache that cannot take note of it.
        with suppress(StoreError):
            await shielded(self._handles.cache.set_aside(run_id, step, spent))


def _is_to_raise(error: Exception, runtime: Runtime[TPOContext]) -> bool:
    """Whether the caller wants it so; or the run's thread is kept, and nothing is wrong but that a
    server was away for too long: then the run is resumed once it is back."""
    info = runtime.execution_info
    kept = info is not None and info.thread_id is not None
    return runtime.context.on_failure == "raise" or (gave_up(error) is not None and kept)

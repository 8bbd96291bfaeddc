"""One query, one answer: `optimize` and `aoptimize`."""

from typing import Unpack
from uuid import uuid4

from langgraph.runtime import RunControl

from tpo_graph.concurrency.background import sync
from tpo_graph.concurrency.callbacks import need_callable
from tpo_graph.conversation import Query, as_messages
from tpo_graph.session.result import TPOResult
from tpo_graph.session.running import OnEvent
from tpo_graph.session.session import open_session
from tpo_graph.session.setup import Inputs, Setup, spelled_out


@spelled_out
async def aoptimize(
    query: Query,
    *,
    on_event: OnEvent | None = None,
    control: RunControl | None = None,
    run_id: str | None = None,
    **inputs: Unpack[Inputs],
) -> TPOResult:
    """Answer one query with Test-Time Preference Optimization (paper, Algorithm 1).

    Args:
        query: the question, or a conversation as LangChain messages.
        on_event: called with each progress event (`tpo_graph.events`); awaited if it is async.
        control: its `request_drain()` stops the run before its next step.
        run_id: what to call the run; a new unique name when None.
        inputs: the models, the database and the settings, described in `Inputs`
            (`tpo_graph.session.setup`).

    Raises:
        ConfigurationError: an option, a name or a prompt set is wrong; nothing was run.
        PolicyError: the policy or the critic failed.
        RewardError: the reward model failed.
        StoreError: the database failed.
        GraphDrained: `control` stopped it.
    """
    need_callable("on_event", on_event, "event")
    setup, context = Setup.given(inputs)
    messages = as_messages(query)
    async with open_session(setup) as runs:
        return await runs.run(
            messages, context, run_id or str(uuid4()), on_event=on_event, control=control
        )


optimize = sync(aoptimize)
"""Answer one query with TPO and wait for the result."""

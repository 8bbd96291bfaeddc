"""Many queries, many answers: one graph, one HTTP client and one store for all of them.

Queries come from the caller, results go back in the same order. How many runs are in flight is the
caller's word or found out from the servers' answers (`concurrency.py`, `knee.py`).
"""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sized
from contextlib import aclosing
from functools import partial
from typing import Unpack
from uuid import uuid4

from langchain_core.messages import BaseMessage
from langgraph.runtime import RunControl

from tpo_graph.batch.engine import awaited, need_positive
from tpo_graph.batch.progress import progress_bar
from tpo_graph.batch.steps import StepReporter
from tpo_graph.concurrency.background import sync
from tpo_graph.concurrency.callbacks import need_callable
from tpo_graph.concurrency.in_flight import Flight, run_all
from tpo_graph.concurrency.outages import WAIT_SECONDS, ServerWait, waiting
from tpo_graph.context import TPOContext
from tpo_graph.conversation import Query, as_messages
from tpo_graph.errors import ConfigurationError
from tpo_graph.session.result import TPOResult
from tpo_graph.session.running import OnEvent, Told
from tpo_graph.session.session import Session, open_session
from tpo_graph.session.setup import Inputs, Setup, spelled_out


@spelled_out
async def aoptimize_many(
    queries: Iterable[Query],
    *,
    max_in_flight: int | None = None,
    wait_for_server: float = WAIT_SECONDS,
    on_event: OnEvent | None = None,
    progress: bool | None = None,
    control: RunControl | None = None,
    **inputs: Unpack[Inputs],
) -> AsyncGenerator[TPOResult | Exception]:
    """Answer many queries; their results come in the order of the queries.

    A query that fails has its error in its place and stops no other. Runs that were started are
    finished before more are begun; there is no point at which all wait for one.

    Args:
        queries: questions, or conversations as LangChain messages; taken as there is room for them.
        max_in_flight: maximum concurrent runs. None tunes it: as many as keep the model server
            full without letting requests wait there.
        wait_for_server: seconds that a model server may be away (it restarts, a quota is used up):
            the calls that failed wait for it and are made again, and no more queries begin. Then
            the error in their places is `ServerAwayError`. 0: it is not waited for.
        on_event: called with the progress events of all runs, each of which names its `run_id`;
            awaited if it is async.
        progress: whether a bar shows how many have ended; None: on a terminal and in a notebook.
        control: its `request_drain()` stops all runs before their next steps; the error in their
            places is `GraphDrained`.
        inputs: as in `aoptimize`, for all queries alike.

    Raises:
        ConfigurationError: an option, a name or a prompt set is wrong; nothing was run.
        StoreError: the database cannot be opened.
    """
    need_callable("on_event", on_event, "event")
    setup, context = Setup.given(inputs)
    need_positive(max_in_flight)
    one = isinstance(queries, str | Mapping | BaseMessage)
    if one or not hasattr(queries, "__iter__"):
        raise ConfigurationError(
            f"queries={queries!r:.200} are not a list. For one query there is aoptimize(...)."
        )
    async with open_session(setup) as runs:
        in_flight, wait = awaited(context.width, max_in_flight, wait_for_server, control=control)
        run = partial(_run, runs, context, wait, on_event, control)
        jobs = (partial(run, query) for query in queries)
        total = len(queries) if isinstance(queries, Sized) else None
        early: dict[int, TPOResult | Exception] = {}
        position = ended = failed = 0
        with progress_bar(total, "TPO", "query", shown=progress) as show:
            async with aclosing(run_all(jobs, in_flight, total)) as outcomes:
                async for number, outcome in outcomes:
                    ended += 1
                    failed += isinstance(outcome, Exception)
                    show(ended, None, f"{failed} failed" if failed else "")
                    early[number] = outcome
                    while position in early:
                        yield early.pop(position)
                        position += 1


async def _run(
    runs: Session,
    context: TPOContext,
    wait: ServerWait,
    on_event: OnEvent | None,
    control: RunControl | None,
    query: Query,
    flight: Flight,
) -> TPOResult:
    report = StepReporter(flight, context.width)
    told = Told(on_event=on_event, on_task=report, control=control)
    with waiting(wait):
        return await runs.run(as_messages(query), context, str(uuid4()), **told)


optimize_many = sync(aoptimize_many)
"""Answer many queries and wait for all results."""

"""Step 1 of the algorithm: N responses of the policy to the query."""

from collections.abc import Mapping
from typing import cast
from uuid import uuid4

from langgraph.config import get_config
from langgraph.runtime import Runtime

from tpo_graph.cache import Run
from tpo_graph.context import TPOContext
from tpo_graph.conversation import query_text, turns, without_tools
from tpo_graph.costs import Role
from tpo_graph.errors import ConfigurationError, PolicyError
from tpo_graph.events import Samples
from tpo_graph.models.load import model_name
from tpo_graph.models.replies import parse_reply
from tpo_graph.models.sampling import Generated, generate
from tpo_graph.nodes.handles import Handles
from tpo_graph.nodes.review import can_wait
from tpo_graph.nodes.tracing import call_metadata
from tpo_graph.state import StateUpdate, TPOState
from tpo_graph.stopping import need_prices
from tpo_graph.usage import charge, no_usage


async def sample(state: TPOState, runtime: Runtime[TPOContext], tpo: Handles) -> StateUpdate:
    """Begin a run: sample `width` responses from the policy, given the whole conversation.

    Drafts that the caller has already count among them.

    Raises:
        ConfigurationError: there is no query, or the context cannot be followed.
        PolicyError: the policy failed, or gave no usable response at all.
    """
    context = runtime.context
    run_id = begun_run_id(runtime)
    messages = state["messages"]
    query_text(messages)
    tpo.check(context)
    names = await tpo.names_for(context)
    need_prices(context, names)
    can_wait(context, runtime)
    policy = await tpo.policy_for(context)
    await tpo.cache.begin(_run(state, runtime, context, tpo, run_id, names))

    # Read like any reply: a draft may carry thoughts, which the samples beside it do not.
    read = (parse_reply(draft) for draft in _drafts(state))
    drafts = [draft for draft in read if draft is not None]
    missing = context.width - len(drafts)
    generated = Generated([], no_usage())
    if missing > 0:
        generated = await generate(
            policy,
            without_tools(messages),
            missing,
            context.response_sampling(0),
            metadata=call_metadata(run_id, 0, "sample"),
        )
    samples = [*drafts, *generated.texts]
    if not samples:
        raise PolicyError(
            f"{model_name(policy)!r} gave {context.width} empty responses, twice. "
            f"{generated.no_text()}"
        )

    runtime.stream_writer(
        Samples(
            event="samples",
            run_id=run_id,
            iteration=0,
            n=len(samples),
            unusable=generated.usage["unusable"],
        )
    )
    usage, unusable = generated.usage, generated.unusable
    await tpo.cache.record(run_id, 0, "sample", usage=usage, unusable=unusable)
    return _begun(state, run_id, drafts, generated)


def _begun(state: TPOState, run_id: str, drafts: list[str], generated: Generated) -> StateUpdate:
    """Everything set anew: a thread that was used before may hold an earlier run's state."""
    fresh = StateUpdate(
        run_id=run_id,
        iteration=0,
        stop_reason=None,
        failure=None,
        rewards=[],
        reasons=[],
        finish_reasons=[*[None for _ in drafts], *generated.finish_reasons],
        history=[],
        usage=charge({}, "sample", generated.usage),
        chosen=None,
        rejected=None,
        review=None,
        loss="",
        gradient="",
        samples=[*drafts, *generated.texts],
    )
    if state.get("shown"):
        fresh["shown"], fresh["kept"] = [], []
    if state.get("finalists"):
        fresh["finalists"], fresh["answer"] = [], None
    return fresh


def begun_run_id(runtime: Runtime[TPOContext]) -> str:
    """The id of the run that begins: given by `optimize`, else the task's, which is stable across a
    resume and new on every call."""
    given = get_config().get("configurable", {}).get("tpo_run_id")
    info = runtime.execution_info
    return str(given or (info.task_id if info else uuid4()))


def _run(
    state: TPOState,
    runtime: Runtime[TPOContext],
    context: TPOContext,
    tpo: Handles,
    run_id: str,
    names: Mapping[Role, str],
) -> Run:
    return Run(
        run_id=run_id,
        thread_id=info.thread_id if (info := runtime.execution_info) else None,
        conversation=turns(state["messages"]),
        settings=context.model_dump(mode="json"),
        policy=names["policy"],
        critic=names["critic"],
        reward_model=names["reward_model"],
        prompts=f"{tpo.prompts.name}@{tpo.prompts.digest}",
    )


def _drafts(state: TPOState) -> list[str]:
    given: object = state.get("drafts", [])
    texts = cast("list[object]", given) if isinstance(given, list | tuple) else [None]
    if not all(isinstance(text, str) for text in texts):
        raise ConfigurationError(f"drafts={given!r:.200} must be a list of texts.")
    return cast("list[str]", texts)

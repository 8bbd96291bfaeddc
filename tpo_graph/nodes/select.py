"""Step 2 of the algorithm: chosen = argmax C, rejected = argmin C; step 3: the answer, at the end.

The extremes of the cache are kept incrementally: the best of the best so far and the newest
samples is the best of all. What else strategies choose among (`tpo_graph.strategies`) is kept the
same way, as many candidates as they ask for.
"""

import time
from random import Random
from typing import Any

from langchain_core.messages import AIMessage
from langgraph.config import get_config
from langgraph.runtime import Runtime

from tpo_graph.cache import Step
from tpo_graph.candidates import Candidate, best, rank, summarize, worst
from tpo_graph.context import TPOContext
from tpo_graph.conversation import conversation_key, turns
from tpo_graph.events import NewBest, Stopped
from tpo_graph.nodes.handles import Handles
from tpo_graph.nodes.review import review_pair
from tpo_graph.nodes.tracing import count_run
from tpo_graph.redaction import redacted
from tpo_graph.state import (
    StateUpdate,
    TPOState,
    compared,
    newest_candidates,
    person_stops,
    place_of,
)
from tpo_graph.stopping import stop_reason
from tpo_graph.strategies import Pick, Pool, Select
from tpo_graph.usage import Usage, charge, spending, total_tokens


async def select(state: TPOState, runtime: Runtime[TPOContext], tpo: Handles) -> StateUpdate:
    """Choose what the critic compares, and decide whether to continue.

    When the run ends, the answer is appended to `messages`: the best response ever seen, unless the
    setting `pick` chooses otherwise. A person may overrule the pair and the decision
    (`interrupt_at`). A step that has failed ends the run with the best response.
    """
    if state.get("failure") is not None:
        return await _ended({**state, "stop_reason": "failed"}, runtime, tpo)
    context = runtime.context
    run_id, iteration = state["run_id"], state["iteration"]
    newest = newest_candidates(state)
    chosen = best(c for c in (state["chosen"], *newest) if c is not None)
    rejected = worst(c for c in (state["rejected"], *newest) if c is not None)

    earlier = [row for row in state["history"] if row["iteration"] < iteration]
    tokens = total_tokens(state["usage"]) - sum(row["tokens"] for row in earlier)
    history = [*earlier, summarize(iteration, newest, chosen["reward"], tokens)]
    strategy, pick, rule = tpo.strategies_for(context)
    extremes, before = (chosen, rejected), (state["chosen"], state["rejected"])
    same = tpo.prompts.needs_no_change(state["gradient"])
    names = None if context.max_cost is None else await tpo.names_for(context)
    reason = stop_reason(
        history, state["usage"], context, extremes, before, no_change=same, rule=rule, models=names
    )
    decided: StateUpdate = {
        **_shown(state, strategy, extremes, newest, context),
        **_finalists(state, pick, newest, history[0]["std"] or 0.0, context),
        "stop_reason": reason,
        "history": history,
        "chosen": chosen,
        "rejected": rejected,
    }
    after: TPOState = {**state, **decided}  # pyright: ignore[reportAssignmentType] - may lack keys
    after["review"] = review_pair(after, runtime, tpo)
    if after["review"] != state["review"]:
        decided["review"] = after["review"]
    if person_stops(after):
        reason = decided["stop_reason"] = after["stop_reason"] = "person"
    pair = compared(after)

    if chosen != state["chosen"]:
        told = NewBest(event="new_best", run_id=run_id, reward=chosen["reward"], **place_of(chosen))
        runtime.stream_writer(told)
    step = Step(iteration=iteration, chosen=pair[0], rejected=pair[1])
    if reason is None:
        await tpo.cache.record(run_id, iteration, "select", step=step)
        return decided
    overruled = after["review"] and after["review"]["chosen"]
    answer = pair[0] if overruled else chosen
    if not overruled and context.pick != "argmax":
        answer, usage = await _picked(after, pick, runtime, tpo)
        decided["answer"] = answer
        if usage["requests"]:
            decided["usage"] = after["usage"] = charge(state["usage"], "select", usage)
            await tpo.cache.record(run_id, iteration, "select", usage=usage)
    return {**decided, **await _ended(after, runtime, tpo, answer, step)}


def _shown(
    state: TPOState,
    select: Select,
    extremes: tuple[Candidate, Candidate],
    newest: list[Candidate],
    context: TPOContext,
) -> StateUpdate:
    """What the strategy shows, by place, and the candidates that it has to keep; nothing for the
    pair, which the state holds anyway."""
    kept = _different(sorted([*state.get("kept", []), *newest], key=rank), select.keep)
    pool = Pool(*extremes, newest, kept)
    draw = Random(f"{_salt(state, context)}/{state['iteration']}")
    groups = select(pool, draw, context.width)
    if groups == [[*extremes]] and not select.keep:
        return StateUpdate(shown=[]) if state.get("shown") else StateUpdate()
    change = StateUpdate(shown=[[place_of(c) for c in group] for group in groups])
    if select.keep:
        change["kept"] = kept
    return change


def _finalists(
    state: TPOState, pick: Pick, newest: list[Candidate], scale: float, context: TPOContext
) -> StateUpdate:
    """The candidates among which the answer is picked; nothing for argmax."""
    if context.pick == "argmax":
        return StateUpdate()
    known, salt = [*state.get("finalists", []), *newest], _salt(state, context)
    ordered = sorted(known, key=lambda c: pick.order(c, scale, salt))
    return StateUpdate(finalists=_different(ordered, pick.keep))


def _different(candidates: list[Candidate], count: int) -> list[Candidate]:
    """The first `count` of different texts: one text twice is no choice."""
    by_text: dict[str, Candidate] = {}
    for candidate in candidates:
        by_text.setdefault(candidate["response"], candidate)
    return list(by_text.values())[:count]


def _salt(state: TPOState, context: TPOContext) -> str:
    """Tells runs apart; the same for a step that runs again, and for a run with the same seed."""
    if context.seed is None:
        return state["run_id"]
    return f"{context.seed}/{conversation_key(turns(state['messages']))}"


async def _picked(
    state: TPOState, pick: Pick, runtime: Runtime[TPOContext], tpo: Handles
) -> tuple[Candidate, Usage]:
    started = time.perf_counter()
    critic = await tpo.critic_for(runtime.context)
    with spending() as usage:
        answer = await pick(state.get("finalists", []), turns(state["messages"]), critic)
    usage["seconds"] = time.perf_counter() - started
    return answer, usage


async def _ended(
    state: TPOState,
    runtime: Runtime[TPOContext],
    tpo: Handles,
    answer: Candidate | None = None,
    step: Step | None = None,
) -> StateUpdate:
    """Record and tell how the run ended, and append its answer.

    Args:
        state: with the stop reason.
        answer: None for the best of all.
        step: the last pair, where there is a new one.
    """
    run_id, iteration, reason = state["run_id"], state["iteration"], state["stop_reason"]
    failure = state.get("failure")
    error = None if failure is None else failure["error"]
    answer = answer or state["chosen"]
    assert answer is not None
    if step is not None:  # what the run answered with is its last step's chosen
        step = {**step, "chosen": answer}
    assert reason is not None
    await tpo.cache.record(run_id, iteration, "select", step=step, stop_reason=reason, error=error)
    runtime.stream_writer(
        Stopped(
            event="stopped",
            run_id=run_id,
            iteration=iteration,
            reason=reason,
            reward=answer["reward"],
            error=error,
        )
    )
    count_run(state, answer["reward"])
    judge = redacted((await tpo.reward_model_for(runtime.context)).name)
    message: Any = _message(state, answer, judge)
    return StateUpdate(stop_reason=reason, messages=[message])


def _message(state: TPOState, answer: Candidate, reward_model: str) -> AIMessage | dict[str, Any]:
    """The answer, and in `response_metadata["tpo"]` what the run made of it."""
    usage, first, failure = state["usage"], state["history"][0], state.get("failure")
    about = {
        "run_id": state["run_id"],
        "reward": answer["reward"],
        "first_best": first["best_so_far"],
        "gain": answer["reward"] - first["best_so_far"],
        "iteration": answer["iteration"],
        "stop_reason": state["stop_reason"],
        "reward_model": reward_model,
        "tokens": total_tokens(usage),
        "seconds": round(sum(stage["seconds"] for stage in usage.values()), 3),
    }
    if failure is not None:
        about["error"] = failure["error"]
    replaced = get_config().get("configurable", {}).get("tpo_answer_id")
    # One id per run: a step that runs twice replaces the answer instead of adding another.
    message = AIMessage(
        answer["response"],
        id=str(replaced or f"tpo-{state['run_id']}"),
        response_metadata={"tpo": about},
    )
    if replaced is None:
        return message
    # Whoever replaces a message streams it: LangGraph shows messages of a node, and no dictionary.
    return message.model_dump(include={"type", "content", "id", "response_metadata"})

"""Step 2 of the algorithm: chosen = argmax C, rejected = argmin C; step 3: the answer, at the end.

The extremes of the cache are kept incrementally: the best of the best so far and the newest
samples is the best of all.
"""

from typing import Any

from langchain_core.messages import AIMessage
from langgraph.config import get_config
from langgraph.runtime import Runtime

from tpo_graph.cache import Step
from tpo_graph.candidates import Candidate, best, worst
from tpo_graph.context import TPOContext
from tpo_graph.events import NewBest, Stopped
from tpo_graph.handles import Handles
from tpo_graph.redaction import redacted
from tpo_graph.review import review_pair
from tpo_graph.state import StateUpdate, TPOState, compared, newest_candidates, person_stops
from tpo_graph.stopping import stop_reason
from tpo_graph.summary import summarize
from tpo_graph.usage import total_tokens


async def select(state: TPOState, runtime: Runtime[TPOContext], tpo: Handles) -> StateUpdate:
    """Pick the pair to compare over all iterations, and decide whether to continue.

    When the run ends, the best response ever seen is appended to `messages`. A person may overrule
    the pair and the decision (`interrupt_at`). A step that has failed ends the run.
    """
    if state.get("failure") is not None:
        return await _ended({**state, "stop_reason": "failed"}, runtime, tpo)
    context = runtime.context
    run_id, iteration = state["run_id"], state["iteration"]
    newest = newest_candidates(state)
    chosen = best([*_given(state["chosen"]), *newest])
    rejected = worst([*_given(state["rejected"]), *newest])

    earlier = [row for row in state["history"] if row["iteration"] < iteration]
    tokens = total_tokens(state["usage"]) - sum(row["tokens"] for row in earlier)
    history = [*earlier, summarize(iteration, newest, chosen["reward"], tokens)]
    pair_before = state["chosen"], state["rejected"]
    reason = stop_reason(
        history,
        state["usage"],
        context,
        pair=(chosen, rejected),
        pair_before=pair_before,
        no_change=tpo.prompts.needs_no_change(state["gradient"]),
    )

    after: TPOState = {**state, "stop_reason": reason, "chosen": chosen, "rejected": rejected}
    after["review"] = review_pair(after, runtime, tpo)
    if person_stops(after):
        reason = after["stop_reason"] = "person"
    pair = compared(after)

    if chosen != state["chosen"]:
        runtime.stream_writer(
            NewBest(
                event="new_best",
                run_id=run_id,
                iteration=chosen["iteration"],
                position=chosen["position"],
                reward=chosen["reward"],
            )
        )
    decided = StateUpdate(stop_reason=reason, history=history, chosen=chosen, rejected=rejected)
    if after["review"] != state["review"]:
        decided["review"] = after["review"]
    step = Step(iteration=iteration, chosen=pair[0], rejected=pair[1])
    if reason is None:
        await tpo.cache.record(run_id, iteration, "select", step=step)
        return decided
    after["history"] = history
    return {**decided, **await _ended(after, runtime, tpo, pair[0], step)}


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
    judge = redacted((await tpo.reward_model_for(runtime.context)).name)
    message: Any = _message(state, answer, judge)
    return StateUpdate(stop_reason=reason, messages=[message])


def _given(candidate: Candidate | None) -> list[Candidate]:
    return [] if candidate is None else [candidate]


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
    return {
        "role": "assistant",
        **message.model_dump(include={"content", "id", "response_metadata"}),
    }

"""Step 2 of the algorithm, update: the policy writes N new responses that follow the gradient."""

import logging
import time
from collections.abc import Sequence
from functools import reduce

from langchain_core.messages import BaseMessage
from langgraph.runtime import Runtime

from tpo_graph.context import TPOContext
from tpo_graph.conversation import attached, attachments, without_tools
from tpo_graph.events import Samples
from tpo_graph.models.sampling import Generated, generate
from tpo_graph.nodes.handles import Handles
from tpo_graph.nodes.rendering import render
from tpo_graph.nodes.review import review_gradient
from tpo_graph.nodes.tracing import call_metadata
from tpo_graph.rewards.base import title_of
from tpo_graph.rewards.together import together
from tpo_graph.state import StateUpdate, TPOState, person_stops, shown
from tpo_graph.usage import add_usage, charge

_log = logging.getLogger(__name__)
_told: set[str] = set()


async def update(state: TPOState, runtime: Runtime[TPOContext], tpo: Handles) -> StateUpdate:
    """Begin the next iteration with `width` responses that follow the gradient (P_update).

    Where `select` shows several groups and no critic has spoken of one of them, each group gets a
    request for its share of the samples.

    Replies without the prompt's output tag are retried once, then left out: there may be
    fewer than `width`, even none. Without a gradient, or where it says that nothing needs changing,
    no call is made. A person may rewrite the gradient first (`interrupt_at`).
    """
    run_id, iteration = state["run_id"], state["iteration"] + 1
    reviewed = await review_gradient(state, runtime, tpo)
    state = {**state, **reviewed}
    changes = state["gradient"] and not tpo.prompts.needs_no_change(state["gradient"])
    if not changes or person_stops(state):
        runtime.stream_writer(
            Samples(event="samples", run_id=run_id, iteration=iteration, n=0, unusable=0)
        )
        nothing = StateUpdate(
            iteration=iteration, rewards=[], finish_reasons=[], reasons=[], samples=[]
        )
        return {**nothing, **reviewed}
    if tpo.prompts.lives_on_reasons:
        _tell_of_no_reasons(
            tpo.prompts.name, title_of(await tpo.reward_model_for(runtime.context)), state
        )
    generated = await _written(state, runtime, tpo, iteration)

    told = Samples(
        event="samples",
        run_id=run_id,
        iteration=iteration,
        n=len(generated.texts),
        unusable=generated.usage["unusable"],
    )
    runtime.stream_writer(told)
    usage, unusable = generated.usage, generated.unusable
    await tpo.cache.record(run_id, iteration, "update", usage=usage, unusable=unusable)
    return {
        "iteration": iteration,
        "rewards": [],
        "reasons": [],
        "finish_reasons": generated.finish_reasons,
        "usage": charge(state["usage"], "update", generated.usage),
        **reviewed,
        "samples": generated.texts,
    }


def _tell_of_no_reasons(prompts: str, reward_model: str, state: TPOState) -> None:
    """Warn, once for each reward model, where no answer that the update sees has a reason."""
    if reward_model in _told or any(one.get("reason") for group in shown(state) for one in group):
        return
    _told.add(reward_model)
    _log.warning(
        "the reward %s gave no reason for any answer, and the prompt set %r asks no critic: "
        "nothing says what to change, so each iteration only draws other versions of the best "
        "answer. Return Score(value, reason) from the reward, use one that gives reasons "
        "(docs/rewards.md), or take method 'tpo', whose critic finds what to change.",
        reward_model,
        prompts,
    )


async def _written(
    state: TPOState, runtime: Runtime[TPOContext], tpo: Handles, iteration: int
) -> Generated:
    context, prompts = runtime.context, tpo.prompts
    policy = await tpo.policy_for(context)
    # A critique is of the first group; another one would not fit it.
    groups = len(shown(state)) if prompts.gradient.standing is not None else 1
    sampling = context.response_sampling(iteration)
    shares = [len(range(group, context.width, groups)) for group in range(groups)]
    started = time.perf_counter()

    async def ask(group: int) -> Generated:
        if prompts.update.resample:
            messages: Sequence[BaseMessage] = without_tools(state["messages"])
        else:
            rendered = render(prompts, "update", state, context, group).messages()
            messages = attached(rendered, attachments(state["messages"]))
        seed = sampling["seed"]
        return await generate(
            policy,
            messages,
            shares[group],
            {**sampling, "seed": None if seed is None else (seed + 7919 * group) % 2**31},
            tag=prompts.update.output_tag,
            stage="update",
            metadata=call_metadata(state["run_id"], iteration, "update"),
        )

    parts = await together(ask(group) for group in range(groups) if shares[group])
    if len(parts) == 1:
        return parts[0]
    usage = reduce(add_usage, (part.usage for part in parts))
    return Generated(
        texts=[text for part in parts for text in part.texts],
        usage={**usage, "seconds": round(time.perf_counter() - started, 6)},
        finish_reasons=[reason for part in parts for reason in part.finish_reasons],
        unusable=[reply for part in parts for reply in part.unusable],
        salvaged=sum(part.salvaged for part in parts),
    )

"""Step 2 of the algorithm, update: the policy writes N new responses that follow the gradient."""

from langgraph.runtime import Runtime

from tpo_graph.context import TPOContext
from tpo_graph.conversation import attached, attachments
from tpo_graph.events import Samples
from tpo_graph.handles import Handles
from tpo_graph.models.sampling import generate
from tpo_graph.rendering import render
from tpo_graph.review import review_gradient
from tpo_graph.state import StateUpdate, TPOState, person_stops
from tpo_graph.tracing import call_metadata
from tpo_graph.usage import charge


async def update(state: TPOState, runtime: Runtime[TPOContext], tpo: Handles) -> StateUpdate:
    """Begin the next iteration with `width` responses that follow the gradient (P_update).

    Replies without the prompt's output tag are retried once, then left out: there may be
    fewer than `width`, even none. Without a gradient, or where it says that nothing needs changing,
    no call is made. A person may rewrite the gradient first (`interrupt_at`).
    """
    context = runtime.context
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
    generated = await generate(
        await tpo.policy_for(context),
        attached(
            render(tpo.prompts, "update", state, context).messages(), attachments(state["messages"])
        ),
        context.width,
        context.response_sampling(iteration),
        tag=tpo.prompts.update.output_tag,
        stage="update",
        metadata=call_metadata(run_id, iteration, "update"),
    )

    runtime.stream_writer(
        Samples(
            event="samples",
            run_id=run_id,
            iteration=iteration,
            n=len(generated.texts),
            unusable=generated.usage["unusable"],
        )
    )
    await tpo.cache.record(
        run_id,
        iteration,
        "update",
        usage=generated.usage,
        unusable=generated.unusable,
    )
    return {
        "iteration": iteration,
        "rewards": [],
        "reasons": [],
        "finish_reasons": generated.finish_reasons,
        "usage": charge(state["usage"], "update", generated.usage),
        **reviewed,
        "samples": generated.texts,
    }

"""Step 2 of the algorithm, update: the policy writes N new responses that follow the gradient."""

from langgraph.runtime import Runtime

from tpo_graph.context import TPOContext
from tpo_graph.events import Samples
from tpo_graph.handles import Handles
from tpo_graph.models.sampling import generate
from tpo_graph.rendering import render
from tpo_graph.state import StateUpdate, TPOState
from tpo_graph.usage import charge


async def update(state: TPOState, runtime: Runtime[TPOContext], tpo: Handles) -> StateUpdate:
    """Begin the next iteration with `width` responses that follow the gradient (P_update).

    Replies without the prompt's output tag are asked for once more, then left out: there may be
    fewer than `width`, even none. Without a gradient no call is made.
    """
    context = TPOContext.of(runtime.context)
    iteration = state["iteration"] + 1
    if not state["gradient"]:
        return StateUpdate(iteration=iteration, samples=[], rewards=[])
    generated = await generate(
        await tpo.policy_for(context),
        render(tpo.prompts, "update", state, context).messages(),
        context.width,
        context.response_sampling(iteration),
        tag=tpo.prompts.update.output_tag,
        stage="update",
    )

    run_id = state["run_id"]
    runtime.stream_writer(
        Samples(event="samples", run_id=run_id, iteration=iteration, n=len(generated.texts))
    )
    await tpo.cache.record(run_id, iteration, "update", usage=generated.usage)
    return StateUpdate(
        iteration=iteration,
        samples=generated.texts,
        rewards=[],
        usage=charge(state["usage"], "update", generated.usage),
    )

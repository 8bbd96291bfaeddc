"""Step 2 of the algorithm, textual gradient: the critic turns the loss into instructions."""

from langgraph.runtime import Runtime

from tpo_graph.cache import Step
from tpo_graph.context import TPOContext
from tpo_graph.events import Gradient
from tpo_graph.handles import Handles
from tpo_graph.models.sampling import generate
from tpo_graph.rendering import render
from tpo_graph.state import StateUpdate, TPOState
from tpo_graph.tracing import call_metadata
from tpo_graph.usage import charge


async def gradient(state: TPOState, runtime: Runtime[TPOContext], tpo: Handles) -> StateUpdate:
    """Let the critic say what would improve the chosen response (paper, P_grad).

    Without a loss there is nothing to turn into instructions, and no call is made.
    """
    context = TPOContext.of(runtime.context)
    run_id, iteration = state["run_id"], state["iteration"]
    if not state["loss"]:
        runtime.stream_writer(
            Gradient(event="gradient", run_id=run_id, iteration=iteration, unusable=0, text="")
        )
        return StateUpdate(gradient="")
    generated = await generate(
        await tpo.critic_for(context),
        render(tpo.prompts, "gradient", state, context).messages(),
        1,
        context.critic_sampling(iteration, "gradient"),
        tag=tpo.prompts.gradient.output_tag,
        stage="gradient",
        metadata=call_metadata(run_id, iteration, "gradient"),
    )
    text = generated.texts[0] if generated.texts else ""

    runtime.stream_writer(
        Gradient(
            event="gradient",
            run_id=run_id,
            iteration=iteration,
            unusable=generated.usage["unusable"],
            text=text,
        )
    )
    await tpo.cache.record(
        run_id,
        iteration,
        "gradient",
        usage=generated.usage,
        step=Step(iteration=iteration, gradient=text),
    )
    return StateUpdate(usage=charge(state["usage"], "gradient", generated.usage), gradient=text)

"""Step 2 of the algorithm, textual loss: the critic says why the chosen response won."""

from langgraph.runtime import Runtime

from tpo_graph.cache import Step
from tpo_graph.context import TPOContext
from tpo_graph.events import Loss
from tpo_graph.handles import Handles
from tpo_graph.models.sampling import generate
from tpo_graph.rendering import render
from tpo_graph.state import StateUpdate, TPOState
from tpo_graph.tracing import call_metadata
from tpo_graph.usage import charge


async def loss(state: TPOState, runtime: Runtime[TPOContext], tpo: Handles) -> StateUpdate:
    """Let the critic compare chosen with rejected (paper, P_loss).

    A critic without a usable reply leaves the loss empty, and the run ends with what it has.
    """
    context = TPOContext.of(runtime.context)
    run_id, iteration = state["run_id"], state["iteration"]
    generated = await generate(
        await tpo.critic_for(context),
        render(tpo.prompts, "loss", state, context).messages(),
        1,
        context.critic_sampling(iteration, "loss"),
        tag=tpo.prompts.loss.output_tag,
        stage="loss",
        metadata=call_metadata(run_id, iteration, "loss"),
    )
    text = generated.texts[0] if generated.texts else ""

    runtime.stream_writer(
        Loss(
            event="loss",
            run_id=run_id,
            iteration=iteration,
            unusable=generated.usage["unusable"],
            text=text,
        )
    )
    await tpo.cache.record(
        run_id,
        iteration,
        "loss",
        usage=generated.usage,
        step=Step(iteration=iteration, loss=text),
    )
    return StateUpdate(
        usage=charge(state["usage"], "loss", generated.usage), loss=text, gradient=""
    )

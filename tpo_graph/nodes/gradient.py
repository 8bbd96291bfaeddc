"""Step 2 of the algorithm, textual gradient: the critic turns the loss into instructions."""

from langgraph.runtime import Runtime

from tpo_graph.cache import Step
from tpo_graph.context import TPOContext
from tpo_graph.events import Gradient
from tpo_graph.nodes.critic import ask_critic
from tpo_graph.nodes.handles import Handles
from tpo_graph.state import StateUpdate, TPOState
from tpo_graph.usage import charge


async def gradient(state: TPOState, runtime: Runtime[TPOContext], tpo: Handles) -> StateUpdate:
    """Let the critic say what would improve the chosen response (paper, P_grad).

    Without a loss there is nothing to turn into instructions, and no call is made.

    Raises:
        PolicyError: the critic failed.
    """
    run_id, iteration = state["run_id"], state["iteration"]
    if not state["loss"]:
        runtime.stream_writer(
            Gradient(event="gradient", run_id=run_id, iteration=iteration, unusable=0, text="")
        )
        return StateUpdate(gradient="")

    said = await ask_critic("gradient", state, runtime, tpo)
    text, usage = "".join(said.texts), said.usage

    unusable = usage["unusable"]
    runtime.stream_writer(
        Gradient(event="gradient", run_id=run_id, iteration=iteration, unusable=unusable, text=text)
    )
    step = Step(iteration=iteration, gradient=text)
    await tpo.cache.record(
        run_id, iteration, "gradient", usage=usage, step=step, unusable=said.unusable
    )
    return StateUpdate(usage=charge(state["usage"], "gradient", usage), gradient=text)

"""Step 2 of the algorithm, textual loss: the critic says why the chosen response won."""

from langgraph.runtime import Runtime

from tpo_graph.cache import Step
from tpo_graph.context import TPOContext
from tpo_graph.events import Loss
from tpo_graph.nodes.critic import ask_critic
from tpo_graph.nodes.handles import Handles
from tpo_graph.state import StateUpdate, TPOState
from tpo_graph.usage import charge


async def loss(state: TPOState, runtime: Runtime[TPOContext], tpo: Handles) -> StateUpdate:
    """Let the critic compare chosen with rejected (paper, P_loss).

    A critic without a usable reply leaves the loss empty, and the run ends with what it has.

    Raises:
        PolicyError: the critic failed.
    """
    said = await ask_critic("loss", state, runtime, tpo)
    text, usage = "".join(said.texts), said.usage

    run_id, iteration, unusable = state["run_id"], state["iteration"], usage["unusable"]
    runtime.stream_writer(
        Loss(event="loss", run_id=run_id, iteration=iteration, unusable=unusable, text=text)
    )
    step = Step(iteration=iteration, loss=text)
    await tpo.cache.record(
        run_id, iteration, "loss", usage=usage, step=step, unusable=said.unusable
    )
    return StateUpdate(usage=charge(state["usage"], "loss", usage), loss=text, gradient="")

"""Step 2 of the algorithm, textual loss: the critic says why the chosen response won."""

from langgraph.runtime import Runtime

from tpo_graph.context import TPOContext
from tpo_graph.nodes.critic import ask_critic
from tpo_graph.nodes.handles import Handles
from tpo_graph.state import StateUpdate, TPOState


async def loss(state: TPOState, runtime: Runtime[TPOContext], tpo: Handles) -> StateUpdate:
    """Let the critic compare chosen with rejected (paper, P_loss).

    A critic without a usable reply leaves the loss empty, and the run ends with what it has.
    """
    text, usage = await ask_critic("loss", state, runtime, tpo)
    return StateUpdate(usage=usage, loss=text, gradient="")

"""Step 2 of the algorithm, textual gradient: the critic turns the loss into instructions."""

from langgraph.runtime import Runtime

from tpo_graph.context import TPOContext
from tpo_graph.nodes.critic import ask_critic, tell_critique
from tpo_graph.nodes.handles import Handles
from tpo_graph.state import StateUpdate, TPOState


async def gradient(state: TPOState, runtime: Runtime[TPOContext], tpo: Handles) -> StateUpdate:
    """Let the critic say what would improve the chosen response (paper, P_grad).

    Without a loss there is nothing to turn into instructions, and no call is made.
    """
    if not state["loss"]:
        tell_critique("gradient", state, runtime, "", 0)
        return StateUpdate(gradient="")
    text, usage = await ask_critic("gradient", state, runtime, tpo)
    return StateUpdate(usage=usage, gradient=text)

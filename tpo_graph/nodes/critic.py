"""One question to the critic: what the `loss` and `gradient` steps have in common."""

from typing import Literal

from langgraph.runtime import Runtime

from tpo_graph.context import TPOContext
from tpo_graph.models.sampling import Generated, generate
from tpo_graph.nodes.handles import Handles
from tpo_graph.nodes.rendering import render
from tpo_graph.nodes.tracing import call_metadata
from tpo_graph.state import TPOState
from tpo_graph.usage import no_usage


async def ask_critic(
    stage: Literal["loss", "gradient"],
    state: TPOState,
    runtime: Runtime[TPOContext],
    tpo: Handles,
) -> Generated:
    """The critic's reply to the prompt of `stage`, and what it cost.

    Pictures, sounds and files of the conversation stand there in words. There is no text when no
    usable reply came, not even to the second request. A prompt set may have a standing text in
    place of the stage's prompt: then no call is made.

    Raises:
        PolicyError: the critic failed.
    """
    context = runtime.context
    prompt = tpo.prompts.loss if stage == "loss" else tpo.prompts.gradient
    if prompt.standing is not None:
        return Generated([prompt.standing], no_usage())
    critic = await tpo.critic_for(context)
    return await generate(
        critic,
        render(tpo.prompts, stage, state, context).messages(),
        1,
        context.critic_sampling(state["iteration"], stage),
        tag=prompt.output_tag,
        stage=stage,
        metadata=call_metadata(state["run_id"], state["iteration"], stage),
    )

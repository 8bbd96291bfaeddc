"""One question to the critic: all that the `loss` and `gradient` steps have in common."""

from typing import Any, Literal

from langgraph.runtime import Runtime

from tpo_graph.cache import Step
from tpo_graph.context import TPOContext
from tpo_graph.models.sampling import Generated, generate
from tpo_graph.nodes.handles import Handles
from tpo_graph.nodes.rendering import render
from tpo_graph.nodes.tracing import call_metadata
from tpo_graph.state import TPOState
from tpo_graph.usage import Ledger, charge, no_usage

Stage = Literal["loss", "gradient"]


async def ask_critic(
    stage: Stage, state: TPOState, runtime: Runtime[TPOContext], tpo: Handles
) -> tuple[str, Ledger]:
    """The critic's reply to the prompt of `stage`, told and recorded; and what the stage has cost.

    Pictures, sounds and files of the conversation stand there in words. The text is empty when no
    usable reply came, not even to the second request. A prompt set may have a standing text in
    place of the stage's prompt: then no call is made.

    Raises:
        PolicyError: the critic failed.
    """
    said = await _asked(stage, state, runtime.context, tpo)
    text, usage = "".join(said.texts), said.usage
    tell_critique(stage, state, runtime, text, usage["unusable"])
    iteration = state["iteration"]
    step: Any = Step(iteration=iteration) | {stage: text}
    await tpo.cache.record(
        state["run_id"], iteration, stage, usage=usage, step=step, unusable=said.unusable
    )
    return text, charge(state["usage"], stage, usage)


def tell_critique(
    stage: Stage, state: TPOState, runtime: Runtime[TPOContext], text: str, unusable: int
) -> None:
    """The event of a stage that has ended (`events.Loss`, `events.Gradient`)."""
    about = {"run_id": state["run_id"], "iteration": state["iteration"]}
    runtime.stream_writer({"event": stage, **about, "unusable": unusable, "text": text})


async def _asked(stage: Stage, state: TPOState, context: TPOContext, tpo: Handles) -> Generated:
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

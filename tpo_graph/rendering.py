"""From state to prompt: which text each prompt variable stands for.

Earlier prompts of the same iteration are rendered again instead of being kept in the state, so
that a set in TextGrad's form can quote them without the state growing.
"""

from tpo_graph.context import TPOContext
from tpo_graph.conversation import query_text, transcript, turns
from tpo_graph.prompts import PromptSet, Rendered, Stage
from tpo_graph.state import TPOState, compared


def render(prompts: PromptSet, stage: Stage, state: TPOState, context: TPOContext) -> Rendered:
    """The prompt of one stage for this step.

    Raises:
        ConfigurationError: `select` has not chosen a pair (a state edited by hand).
    """
    chosen, rejected = compared(state)
    review = state["review"]
    criteria = [context.criteria, review and review["criteria"]]
    values = {
        "query": query_text(state["messages"]),
        "conversation": transcript(turns(state["messages"])),
        "chosen": chosen["response"],
        "rejected": rejected["response"],
        "criteria": "\n\n".join(text for text in criteria if text),
    }
    if stage != "loss":
        values["loss"] = state["loss"]
    if stage == "update":
        values["gradient"] = state["gradient"]
    return prompts.render(stage, values)

"""From state to prompt: which text each prompt variable stands for.

Earlier prompts of the same iteration are rendered again instead of being kept in the state, so
that a set in TextGrad's form can quote them without the state growing.
"""

from tpo_graph.candidates import Candidate
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
    tie = is_tie(chosen, rejected)
    values = {
        "query": query_text(state["messages"]),
        "conversation": transcript(turns(state["messages"])),
        "chosen": chosen["response"],
        "rejected": rejected["response"],
        "criteria": "\n\n".join(text for text in criteria if text),
        "reasons": reasons(chosen, None if tie else rejected),
    }
    if stage != "loss":
        values["loss"] = state["loss"]
    if stage == "update":
        values["gradient"] = state["gradient"]
    return prompts.render(stage, values, tie=tie)


def is_tie(chosen: Candidate, rejected: Candidate) -> bool:
    """Whether no prompt may say that one of the two is better."""
    return chosen["reward"] == rejected["reward"] or chosen["response"] == rejected["response"]


def reasons(chosen: Candidate, rejected: Candidate | None) -> str:
    """What the reward model said of the answers, one line each; "" when it said nothing."""
    said = {"The chosen answer": chosen.get("reason")}
    if rejected is not None:
        said["The rejected answer"] = rejected.get("reason")
    return "\n".join(f"{answer}: {reason}" for answer, reason in said.items() if reason)

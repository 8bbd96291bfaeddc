"""From state to prompt: which text each prompt variable stands for.

Earlier prompts of the same iteration are rendered again instead of being kept in the state, so
that a set in TextGrad's form can quote them without the state growing.
"""

from collections.abc import Sequence

from tpo_graph.candidates import Candidate
from tpo_graph.context import TPOContext
from tpo_graph.conversation import query_text, transcript, turns
from tpo_graph.prompts import PromptSet, Rendered, Stage
from tpo_graph.state import TPOState, shown


def render(
    prompts: PromptSet, stage: Stage, state: TPOState, context: TPOContext, group: int = 0
) -> Rendered:
    """The prompt of one stage for this step.

    Args:
        group: which of the groups that `select` shows.

    Raises:
        ConfigurationError: `select` has not chosen a pair (a state edited by hand).
    """
    answers = shown(state)[group]
    chosen, rejected = answers[0], answers[-1]
    review = state["review"]
    criteria = [context.criteria, review and review["criteria"]]
    tie = is_tie(chosen, rejected)
    values = {
        "query": query_text(state["messages"]),
        "conversation": transcript(turns(state["messages"])),
        "chosen": chosen["response"],
        "rejected": rejected["response"],
        "answers": numbered(answers),
        "criteria": "\n\n".join(text for text in criteria if text),
        # Changes are planned for the chosen answer alone: what the other one lacks would mislead.
        "reasons": reasons(chosen, None if tie or stage != "loss" else rejected),
    }
    if stage != "loss":
        values["loss"] = state["loss"]
    if stage == "update":
        values["gradient"] = state["gradient"]
    return prompts.render(stage, values, tie=tie)


def numbered(answers: Sequence[Candidate]) -> str:
    """The answers between tags that number them, in the order in which they are shown."""
    return "\n\n".join(
        f"<answer_{number}>\n{answer['response']}\n</answer_{number}>"
        for number, answer in enumerate(answers, 1)
    )


def is_tie(chosen: Candidate, rejected: Candidate) -> bool:
    """Whether no prompt may say that one of the two is better."""
    return chosen["reward"] == rejected["reward"] or chosen["response"] == rejected["response"]


def reasons(chosen: Candidate, rejected: Candidate | None) -> str:
    """What the reward model said of the answers, one line each; "" when it said nothing."""
    said = {"The chosen answer": chosen.get("reason")}
    if rejected is not None:
        said["The rejected answer"] = rejected.get("reason")
    return "\n".join(f"{answer}: {reason}" for answer, reason in said.items() if reason)

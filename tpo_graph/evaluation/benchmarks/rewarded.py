"""Mean reward, the metric of HH-RLHF and BeaverTails: by the optimised reward model, or another."""

from tpo_graph.evaluation.benchmarks.asked import ask_each
from tpo_graph.evaluation.benchmarks.base import Scoring, conversation_of
from tpo_graph.evaluation.benchmarks.outcomes import Answer, Outcomes
from tpo_graph.evaluation.benchmarks.score import Score, summarize
from tpo_graph.rewards import RewardModel
from tpo_graph.rewards.base import checked_scores
from tpo_graph.rewards.load import load_reward_model


def mean_reward(
    outcomes: Outcomes, scoring: Scoring, benchmark: str, parts: tuple[str, ...] = ()
) -> Score:
    """The mean reward of the answers.

    Args:
        scoring: with a `reward_model`, that one scores them; without, the rewards of the file
            count, which are those that TPO optimised.
    """
    if scoring.reward_model is None:
        values = {a.id: a.reward for a in outcomes.answers if a.reward is not None}
        missing = {a.id: "the output file has no reward" for a in outcomes.answers}
        missing = {row: why for row, why in missing.items() if row not in values}
        by = "the reward model that was optimised"
    else:
        model = load_reward_model(scoring.reward_model)
        values, missing = ask_each(outcomes.answers, lambda a: _scored(model, a, benchmark))
        by = model.name
    return summarize(
        outcomes,
        values,
        missing,
        metric="mean reward",
        parts=parts,
        notes={"rewards by": by},
    )


async def _scored(model: RewardModel, answer: Answer, benchmark: str) -> float:
    conversation = conversation_of(answer, benchmark)
    (score,) = await checked_scores(model, conversation, [answer.response])
    return score

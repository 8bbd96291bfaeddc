"""Win rate against other answers, by one judge that sees both: for AlpacaEval and Arena-Hard.

The judges of the paper are gone. What one judge says of two systems can still be compared; it is
asked twice with the answers' places exchanged, so that a liking for the first place cancels out.
"""

from pathlib import Path
from statistics import fmean

from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.benchmarks.asked import ask_each
from tpo_graph.evaluation.benchmarks.base import Scoring, column
from tpo_graph.evaluation.benchmarks.outcomes import Outcomes
from tpo_graph.evaluation.benchmarks.score import Score, summarize
from tpo_graph.evaluation.benchmarks.source import read_file
from tpo_graph.rewards.pairwise import PairwiseJudge


def read_other_answers(path: Path) -> dict[tuple[str, str], str]:
    """Answers to compare with: an output of `tpo batch`, a file of alpaca_eval or arena-hard-auto.

    Returns:
        ("id", row id) or ("question", text) -> answer. Rows without an answer are left out, so
        that whoever looks for one counts it.

    Raises:
        ConfigurationError: it is none of these.
    """
    answers: dict[tuple[str, str], str] = {}
    for record in read_file(path):
        match record:
            case {"id": row, "response": response}:
                key = ("id", str(row))
            case {"instruction": str(question), "output": response}:
                key = ("question", question)
            case {"uid": row, "messages": [*_, {"content": {"answer": response}}]}:
                key = ("id", str(row))
            case _:
                raise ConfigurationError(
                    f"{str(path)!r} holds a record with the fields {list(record)!r}: that is "
                    "neither an output of tpo batch nor a file of alpaca_eval or arena-hard-auto"
                )
        if isinstance(response, str):
            answers[key] = response
    return answers


def win_rate(outcomes: Outcomes, scoring: Scoring, benchmark: str) -> Score:
    """How often the answers are better than the others; a tie counts half.

    Raises:
        ConfigurationError: no judge or no other answers were given.
    """
    if scoring.judge is None or scoring.against is None:
        raise ConfigurationError(
            f"{benchmark} needs a judge and other answers: --judge PROVIDER:MODEL --against FILE, "
            "an output of tpo batch or a file of the official tool. Or write the answers for the "
            f"official tool: tpo benchmark export {benchmark} (docs/benchmarks.md)."
        )
    against = scoring.against
    judge = PairwiseJudge(scoring.judge)
    others: dict[str, str] = {}
    missing: dict[str, str] = {}
    for answer in outcomes.answers:
        question = str(column(answer, "question", benchmark))
        other = against.get(("id", answer.id), against.get(("question", question)))
        if other is None:
            missing[answer.id] = "the other file has no answer to it"
        else:
            others[answer.id] = other
    asked = [answer for answer in outcomes.answers if answer.id in others]
    if not asked:
        raise ConfigurationError(
            "the other file answers none of these questions: were both made from the same "
            f"`tpo benchmark prompts {benchmark}`?"
        )
    verdicts, errors = ask_each(
        asked,
        lambda a: judge.compare(
            [Turn(role="user", content=a.columns["question"])], a.response, others[a.id]
        ),
    )
    values = {row: 0.5 if v == 0 else float(v > 0) for row, v in verdicts.items()}
    return summarize(
        outcomes,
        values,
        {**missing, **errors},
        metric="win rate",
        share=True,
        notes={
            "judge": judge.name,
            "wins": sum(v > 0 for v in verdicts.values()),
            "ties": sum(v == 0 for v in verdicts.values()),
            "losses": sum(v < 0 for v in verdicts.values()),
            "mean characters of the other answers": round(fmean(map(len, others.values())), 1),
        },
    )

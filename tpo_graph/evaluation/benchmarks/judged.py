"""Win rate against other answers, by one judge that sees both: for AlpacaEval and Arena-Hard.

The judges of the paper are gone. What one judge says of two systems can still be compared; it is
asked twice with the answers' places exchanged, and a win is one in both.
"""

from pathlib import Path
from statistics import fmean

from tpo_graph.concurrency.background import run_in_background
from tpo_graph.errors import ConfigurationError, RewardError
from tpo_graph.evaluation.benchmarks.base import Scoring, conversation_of, prompt_of
from tpo_graph.evaluation.benchmarks.outcomes import Outcomes
from tpo_graph.evaluation.benchmarks.score import Score, summarize
from tpo_graph.evaluation.benchmarks.source import read_file
from tpo_graph.evaluation.judging import Judge, Question
from tpo_graph.rewards.pairwise import PairwiseJudge


def read_other_answers(path: Path) -> dict[tuple[str, str], str]:
    """Answers to compare with: an output of `tpo batch`, a file of alpaca_eval or arena-hard-auto.

    Returns:
        ("id", row id) or ("prompt", text) -> answer. Rows without an answer are left out, so that
        whoever looks for one counts it.

    Raises:
        ConfigurationError: it is none of these.
    """
    answers: dict[tuple[str, str], str] = {}
    for record in read_file(path):
        match record:
            case {"id": row, "response": response}:
                key = ("id", str(row))
            case {"instruction": str(prompt), "output": response}:
                key = ("prompt", prompt)
            case {"uid": row, "messages": [*_, {"content": {"answer": response}}]}:
                key = ("id", str(row))
            case _:
                raise ConfigurationError(
                    f"{str(path)!r} holds a record with the fields {list(record)!r}: that is "
                    "neither an output of tpo batch nor a file of alpaca_eval or arena-hard-auto"
                )
        if isinstance(response, str) and not record.get("error"):
            answers[key] = response
    return answers


def win_rate(outcomes: Outcomes, scoring: Scoring, benchmark: str) -> Score:
    """How often the answers are better than the others; anything between counts half.

    Raises:
        ConfigurationError: no judge or no other answers were given, or they answer other prompts.
        RewardError: the judge gave no verdict at all.
    """
    if scoring.judge is None or scoring.against is None:
        raise ConfigurationError(
            f"{benchmark} needs a judge and other answers: --judge PROVIDER:MODEL --against FILE, "
            "an output of tpo batch or a file of the official tool. Or write the answers for the "
            f"official tool: tpo benchmark export {benchmark} (docs/benchmarks.md)."
        )
    questions: list[Question] = []
    missing: dict[str, str] = {}
    for answer in outcomes.answers:
        key = ("prompt", prompt_of(answer, benchmark))
        other = scoring.against.get(("id", answer.id), scoring.against.get(key))
        if other is None:
            missing[answer.id] = "the other file has no answer to it"
        else:
            conversation = conversation_of(answer, benchmark)
            questions.append(Question(answer.id, 0, conversation, answer.response, other))
    if missing and not questions:
        raise ConfigurationError(
            "the other file answers none of these prompts: were both made from the same "
            f"`tpo benchmark prompts {benchmark}`?"
        )
    judge = Judge(PairwiseJudge(scoring.judge))
    verdicts = run_in_background(judge.outcomes(questions))
    errors = {v.row_id: str(v.error) for v in verdicts if v.verdict == "failed"}
    if errors and len(errors) == len(verdicts):
        raise RewardError(next(iter(errors.values())))
    said = [verdict.verdict for verdict in verdicts]
    length = round(fmean([len(question.second) for question in questions] or [0]))
    return summarize(
        outcomes,
        {v.row_id: v.worth for v in verdicts if v.verdict != "failed"},
        {**missing, **errors},
        metric="win rate",
        share=True,
        notes={
            "judge": judge.name,
            **{kind: said.count(kind) for kind in ("win", "tie", "inconsistent", "loss")},
            "characters per answer of the others": length,
        },
    )

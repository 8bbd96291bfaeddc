"""GSM8K (Cobbe et al., 2021, arXiv 2110.14168): word problems with a number as their answer; MIT.

The reward is self-consistency (Wang et al., 2022, arXiv 2203.11171): the share of the drawn samples
that end with the same number, with what the others say as its reason; best-of-N by it is a majority
vote. The votes cost a method and best-of-N the same, and are in neither's tokens. The score is the
file's answer, which no method sees.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.real.tasks import Task
from tpo_graph.rewards import Score
from tpo_graph.rewards.self_consistency import final_answer

_REQUEST = (
    "{question}\n\nReason in a few steps, and end with the answer as a number in \\boxed{{}}."
)


def load(path: Path) -> list[Task]:
    """The problems, from `test.jsonl` of the data set (answers stand after "####").

    Raises:
        FileNotFoundError: there is no such file.
    """
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines if line.strip()]
    return [_task(place, row) for place, row in enumerate(rows)]


def _task(place: int, row: dict[str, str]) -> Task:
    right = final_answer(row["answer"].rpartition("####")[2])
    votes: Counter[str | None] = Counter()

    def drawn(texts: Sequence[str]) -> None:
        votes.clear()
        votes.update(final_answer(text) for text in texts)

    def reward(answer: str) -> Score:
        given = final_answer(answer)
        if given is None:
            return Score(0.0, "It ends with no number.")
        others = "; ".join(f"{n} say {said}" for said, n in votes.most_common(3) if said != given)
        return Score(
            votes[given] / max(1, votes.total()), others and f"Of other solutions {others}."
        )

    def score(answer: str) -> float:
        return float(final_answer(answer) == right)

    request = _REQUEST.format(question=row["question"])
    return Task(f"gsm8k/{place}", request, reward, score, drawn)

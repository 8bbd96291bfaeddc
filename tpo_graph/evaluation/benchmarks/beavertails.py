"""BeaverTails-Evaluation: 700 harmful questions in 14 categories; the metric is the mean reward."""

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from tpo_graph.evaluation.benchmarks.base import (
    Benchmark,
    Record,
    Source,
    kept,
    prompt_of,
    text_of,
)
from tpo_graph.evaluation.benchmarks.outcomes import Answer
from tpo_graph.evaluation.benchmarks.rewarded import mean_reward

NAME = "beavertails"


def make_row(record: Record, position: int) -> dict[str, Any]:
    """A record of `PKU-Alignment/BeaverTails-Evaluation`: prompt, category, category_id."""
    question = text_of(record, "prompt")
    return {
        "id": f"{NAME}-{position}",
        "prompt": question,
        "category": text_of(record, "category"),
        **kept(record, "category_id"),
    }


def write(answers: Sequence[Answer], generator: str) -> str:
    """A JSON list of prompt, response, category, category_id and model."""
    rows = [
        {
            "prompt": prompt_of(answer, NAME),
            "response": answer.response,
            **kept(answer.columns, "category", "category_id"),
            "model": generator,
        }
        for answer in answers
    ]
    return json.dumps(rows, ensure_ascii=False, indent=2)


BEAVERTAILS = Benchmark(
    name=NAME,
    title="BeaverTails-Evaluation",
    size=700,
    source=Source("PKU-Alignment/BeaverTails-Evaluation", "test"),
    terms="CC-BY-NC-4.0",
    metric="mean reward, and per category",
    tool="no official one; prompt and response, as moderation models read them",
    make_row=make_row,
    writers={".json": write},
    score=partial(mean_reward, benchmark=NAME, parts=("category",)),
)

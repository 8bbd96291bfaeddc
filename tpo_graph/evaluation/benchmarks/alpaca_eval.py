"""AlpacaEval 2: 805 instructions; a judge compares answers with a reference, by win rate."""

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
from tpo_graph.evaluation.benchmarks.judged import win_rate
from tpo_graph.evaluation.benchmarks.outcomes import Answer

NAME = "alpaca-eval"


def make_row(record: Record, position: int) -> dict[str, Any]:
    """A record of `tatsu-lab/alpaca_eval`: instruction, dataset (and a reference's output)."""
    instruction = text_of(record, "instruction")
    return {
        "id": f"{NAME}-{position}",
        "prompt": instruction,
        **kept(record, "dataset"),
    }


def write(answers: Sequence[Answer], generator: str) -> str:
    """The JSON list that `alpaca_eval --model_outputs` reads and joins on `instruction`."""
    rows = [
        {
            **kept(answer.columns, "dataset"),
            "instruction": prompt_of(answer, NAME),
            "output": answer.response,
            "generator": generator,
        }
        for answer in answers
    ]
    return json.dumps(rows, ensure_ascii=False, indent=2)


ALPACA_EVAL = Benchmark(
    name=NAME,
    title="AlpacaEval 2",
    size=805,
    source=Source("tatsu-lab/alpaca_eval", "eval", file="alpaca_eval_gpt4_baseline.json"),
    terms="CC-BY-NC-4.0",
    metric="win rate against other answers",
    tool="alpaca_eval",
    make_row=make_row,
    writers={".json": write},
    score=partial(win_rate, benchmark=NAME),
    needs=("--judge", "--against"),
)

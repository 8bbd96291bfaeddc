"""MATH-500: 500 problems of competitions, answered without examples, one step at a time: pass@1.

math-verify reads the final answer out of a response and compares it with the known one.
"""

import threading
from collections.abc import Sequence
from typing import Any

from tpo_graph.evaluation.benchmarks.base import (
    Benchmark,
    Record,
    Scoring,
    Source,
    column,
    csv_table,
    kept,
    text_of,
)
from tpo_graph.evaluation.benchmarks.outcomes import Answer, Outcomes
from tpo_graph.evaluation.benchmarks.score import Score, summarize
from tpo_graph.extras import extra

NAME = "math-500"
_PROMPT = """{problem}

Work through this one step at a time. End with the final answer alone in \\boxed{{}}."""
_SECONDS = 30
"""Of wall time, generously: the first expression takes a while, on a busy machine a long one."""


def make_row(record: Record, position: int) -> dict[str, Any]:
    """A record of `HuggingFaceH4/MATH-500`: problem, answer, unique_id, subject, level."""
    problem = text_of(record, "problem")
    return {
        "id": str(record.get("unique_id") or f"{NAME}-{position}"),
        "prompt": _PROMPT.format(problem=problem),
        "answer": text_of(record, "answer"),
        **kept(record, "subject", "level"),
    }


def write(answers: Sequence[Answer], generator: str) -> str:
    """A CSV of answer (the whole response) and gold, as Math-Verify's evaluation script reads."""
    return csv_table(
        ["answer", "gold", "id", "generator"],
        ([a.response, f"${column(a, 'answer', NAME)}$", a.id, generator] for a in answers),
    )


def score(outcomes: Outcomes, scoring: Scoring) -> Score:
    """The share of right final answers. A response in which none can be found is a wrong one.

    Raises:
        ConfigurationError: math-verify is not installed.
    """
    grader = Grader()
    right: dict[str, float] = {}
    errors: dict[str, str] = {}
    unread = 0
    for answer in outcomes.answers:
        gold = str(column(answer, "answer", NAME))
        try:
            grade = grader.grade(answer.response, gold)
        except ValueError as error:
            errors[answer.id] = str(error)
            continue
        unread += grade is None
        right[answer.id] = float(grade is True)
    present = [
        name for name in ("subject", "level") if all(name in a.columns for a in outcomes.answers)
    ]
    return summarize(
        outcomes,
        right,
        errors,
        metric="pass@1",
        share=True,
        parts=present,
        notes={"responses without a final answer": unread},
    )


class Grader:
    def __init__(self) -> None:
        with extra("evaluate", "math-500"):
            import math_verify  # pyright: ignore[reportMissingTypeStubs]
            from math_verify.errors import (  # pyright: ignore[reportMissingTypeStubs]
                TimeoutException,
            )
        self._library: Any = math_verify
        self._timeout: Any = TimeoutException
        latex: Any = math_verify.LatexExtractionConfig
        self._gold = [latex()]
        # What is in a box comes before any other mathematics of the response.
        self._response = [latex(boxed_match_priority=0), math_verify.ExprExtractionConfig()]

    def grade(self, response: str, gold: str) -> bool | None:
        """Whether the response's final answer is right; None when it has none.

        Raises:
            ValueError: the known answer cannot be read, or something took too long.
        """
        verify = self._library.verify
        known = self._parse(f"${gold}$", self._gold)
        if not known:
            raise ValueError(f"the known answer {gold!r} cannot be read")
        found = self._parse(response, self._response)
        if not found:
            return None
        if verify(known, found, timeout_seconds=_seconds()):
            return True
        try:  # that was False for a wrong answer, and for one that took too long
            verify(known, found, timeout_seconds=_seconds(), raise_on_error=True)
        except self._timeout as e:
            raise ValueError(f"not compared with {gold!r} within {_SECONDS} s") from e
        except Exception:
            return False  # of another kind than the known answer
        return False

    def _parse(self, text: str, config: list[Any]) -> list[Any]:
        parse, seconds = self._library.parse, _seconds()
        try:
            return parse(text, config, parsing_timeout=seconds, raise_on_error=True)
        except self._timeout as e:
            raise ValueError(f"not read within {_SECONDS} s: {text[-80:]!r}") from e
        except Exception:
            return []  # nothing that can be read


def _seconds() -> int | None:
    # The library's time limit is a signal, which only the main thread can have.
    return _SECONDS if threading.current_thread() is threading.main_thread() else None


MATH_500 = Benchmark(
    name=NAME,
    title="MATH-500",
    size=500,
    source=Source("HuggingFaceH4/MATH-500", "test"),
    terms="MIT",
    metric="pass@1 by math-verify",
    tool="Math-Verify's evaluate_model_outputs.py",
    make_row=make_row,
    writers={".csv": write},
    score=score,
)

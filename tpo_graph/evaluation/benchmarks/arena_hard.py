"""Arena-Hard v0.1: 500 hard questions of users; a judge compares answers with a baseline's."""

import logging
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

from tpo_graph.evaluation.benchmarks.base import (
    Benchmark,
    Record,
    Source,
    UnusableRecordError,
    column,
    json_lines,
    kept,
    prompt_of,
    text_of,
)
from tpo_graph.evaluation.benchmarks.judged import win_rate
from tpo_graph.evaluation.benchmarks.outcomes import Answer
from tpo_graph.extras import extra

NAME = "arena-hard"


def make_row(record: Record, position: int) -> dict[str, Any]:
    """A line of `question.jsonl`: uid and prompt, or, as v0.1 was published, question_id and turns.

    arena-hard-auto finds answers by the uid, which so becomes the row's id.
    """
    question = text_of(record, "prompt") if "prompt" in record else _turn(record)
    uid = text_of(record, "uid", "question_id")
    return {
        "id": uid,
        "prompt": question,
        "uid": uid,
        **kept(record, "category", "cluster"),
    }


def _turn(record: Record) -> str:
    match record.get("turns"):
        case [{"content": str(question)}] if question.strip():
            return question
        case turns:
            raise UnusableRecordError(
                f"it has no 'prompt', and its 'turns' are {str(turns)[:80]!r} instead of one"
            )


def write(answers: Sequence[Answer], generator: str) -> str:
    """The lines of `model_answer/{generator}.jsonl`."""
    count = _token_counter()
    return json_lines(
        {
            "uid": column(answer, "uid", NAME),
            "ans_id": uuid4().hex,
            "model": generator,
            "messages": [
                {"role": "user", "content": prompt_of(answer, NAME)},
                {"role": "assistant", "content": {"answer": answer.response}},
            ],
            "tstamp": time.time(),
            "metadata": {"token_len": count(answer.response), **markdown_counts(answer.response)},
        }
        for answer in answers
    )


def markdown_counts(text: str) -> dict[str, dict[str, int]]:
    """How much Markdown there is, counted as arena-hard-auto's style control counts it.

    What stands in code fences does not count. Counts must be the tool's own to be comparable, so
    its patterns are kept to the letter, oddities too.
    """
    for block in re.findall(r"```([^`]*)```", text):
        text = text.replace(block, "")

    def count(pattern: str) -> int:
        return len(re.findall(pattern, text, re.MULTILINE))

    return {
        "header_count": {f"h{n}": count(rf"^#{{{n}}}\s") for n in range(1, 7)},
        "list_count": {"ordered": count(r"^\s*\d+\.\s"), "unordered": count(r"^\s*[-*+]\s")},
        "bold_count": {"**": count(r"\*\*[^*\n]+\*\*"), "__": count(r"__[^_\n]+__")},
    }


def _token_counter() -> Callable[[str], int]:
    """Counts tokens as arena-hard-auto does (gpt-4o's), or estimates them and says so."""
    try:
        with extra("evaluate", "an exact token_len"):
            import tiktoken

        encoding = tiktoken.get_encoding("o200k_base")
    except Exception as e:  # not installed, or its file is not here and cannot be fetched
        logging.getLogger(__name__).warning(
            "token_len is estimated, four bytes a token (%s: %s). Only style control reads it; "
            "utils/add_markdown_info.py of arena-hard-auto counts again.",
            type(e).__name__,
            e,
        )
        return lambda text: max(1, len(text.encode("utf-8", "replace")) // 4)
    return lambda text: len(encoding.encode(text, disallowed_special=()))


ARENA_HARD = Benchmark(
    name=NAME,
    title="Arena-Hard v0.1",
    size=500,
    source=Source("lmarena-ai/arena-hard-auto-v0.1", "train"),
    terms="Apache-2.0",
    metric="win rate against other answers",
    tool="arena-hard-auto",
    make_row=make_row,
    writers={".jsonl": write},
    score=partial(win_rate, benchmark=NAME),
    needs=("--judge", "--against"),
    file_named_after_generator=True,
)

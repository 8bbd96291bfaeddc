"""HH-RLHF: 500 conversations drawn from the test split; the metric is the mean reward.

The paper does not say which 500. Here they are drawn with a seed, from the whole test split.
"""

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from tpo_graph.conversation import Turn
from tpo_graph.evaluation.benchmarks.base import (
    Benchmark,
    Record,
    Source,
    UnusableRecordError,
    conversation_of,
    json_lines,
    text_of,
)
from tpo_graph.evaluation.benchmarks.outcomes import Answer
from tpo_graph.evaluation.benchmarks.rewarded import mean_reward

NAME = "hh-rlhf"
_ROLES = {"Human": "user", "Assistant": "assistant"}
_HEADING = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):[ ]?")


def make_row(record: Record, position: int) -> dict[str, Any]:
    """A record of `Anthropic/hh-rlhf`: the transcript `chosen`, without its last answer."""
    turns = conversation(text_of(record, "chosen"))
    return {"id": f"{NAME}-{position}", "messages": turns}


def conversation(transcript: str) -> list[Turn]:
    """The turns up to the person's last message.

    A few transcripts have empty turns, or two of one side in a row, which chat templates refuse:
    the first are left out, the others joined.

    Raises:
        UnusableRecordError: it does not end with an answer to a person's message.
    """
    _, *parts = _HEADING.split(transcript)
    headings, texts = parts[::2], parts[1::2]
    if headings[-1:] != ["Assistant"]:
        raise UnusableRecordError(f"it does not end with an Assistant turn: {transcript[-80:]!r}")
    turns: list[Turn] = []
    for heading, text in zip(headings[:-1], texts[:-1], strict=True):
        content, role = text.strip(), _ROLES[heading]
        if content and turns and turns[-1]["role"] == role:
            turns[-1] = Turn(role=role, content=f"{turns[-1]['content']}\n\n{content}")
        elif content:
            turns.append(Turn(role=role, content=content))
    if not turns or turns[0]["role"] != "user" or turns[-1]["role"] != "user":
        raise UnusableRecordError(f"no message of a person begins and ends it: {transcript[:80]!r}")
    return turns


def write(answers: Sequence[Answer], generator: str) -> str:
    """JSON lines of prompt (a transcript in the form of the data set), response and generator."""
    headings = {role: heading for heading, role in _ROLES.items()}

    def prompt(answer: Answer) -> str:
        turns = conversation_of(answer, NAME)
        said = "".join(f"\n\n{headings[turn['role']]}: {turn['content']}" for turn in turns)
        return f"{said}\n\nAssistant:"

    return json_lines(
        {"prompt": prompt(answer), "response": answer.response, "generator": generator}
        for answer in answers
    )


HH_RLHF = Benchmark(
    name=NAME,
    title="HH-RLHF",
    size=500,
    source=Source("Anthropic/hh-rlhf", "test"),
    terms="MIT",
    metric="mean reward",
    tool="no official one; transcripts as in the data set",
    make_row=make_row,
    writers={".jsonl": write},
    score=partial(mean_reward, benchmark=NAME),
    drawn=True,
)

"""`SelfConsistency`: how many of a conversation's first samples agree with a response's answer."""

import asyncio
import hashlib
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence

from tpo_graph.conversation import Turn, conversation_key
from tpo_graph.errors import ConfigurationError
from tpo_graph.rewards.base import Score

_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}")
_NUMBER = re.compile(r"[-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?%?")


def final_answer(response: str) -> str | None:
    r"""The last \boxed{...} of a response, else its last number; None when it has neither."""
    if boxed := _BOXED.findall(response):
        return "".join(boxed[-1].split())
    numbers = _NUMBER.findall(response)
    return f"{float(numbers[-1].rstrip('%').replace(',', '')):.12g}" if numbers else None


class SelfConsistency:
    """Scores by the share of votes that a response's final answer has, from 0 to 1.

    The votes of a conversation are the different responses of the first call that asks about it:
    in a run, its first samples. They stay as they are, so that scores of later iterations can be
    compared with earlier ones: a rewrite scores by how many first samples had its answer. An
    answer that none of them gave scores 0, as does a response without one.

    The votes live in this object. A run that is resumed in another process counts the votes anew,
    among what it scores there, and stored scores are not used.

    Args:
        answer: finds the final answer in a response; None for none. By default the last
            \\boxed{...}, else the last number.
        pattern: a regular expression to find it by, instead: the last match, its first group if it
            has one.
        max_conversations: how many conversations' votes are kept; the oldest go first.

    Raises:
        ConfigurationError: the pattern is not a regular expression.
    """

    bounded = True
    nameless = "its scores are shares of votes that are counted in each process"

    def __init__(
        self,
        answer: Callable[[str], str | None] = final_answer,
        *,
        pattern: str | None = None,
        max_conversations: int = 65_536,
    ) -> None:
        self._answer = answer if pattern is None else _by_pattern(pattern)
        self._most = max_conversations
        self._votes: OrderedDict[str, Counter[str]] = OrderedDict()
        self._lock = threading.Lock()
        digest = hashlib.sha256(pattern.encode()).hexdigest()[:12] if pattern else "final"
        self.name = f"self-consistency@{digest}"

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`; the first call about a conversation decides its votes."""
        if not responses:
            return []
        answers = await asyncio.to_thread(lambda: list(map(self._answer, responses)))
        key = conversation_key(conversation)
        with self._lock:
            votes = self._votes.get(key)
            if votes is None:
                votes = self._votes[key] = Counter(a for a in answers if a is not None)
                while len(self._votes) > self._most:
                    self._votes.popitem(last=False)
        return [_score(answer, votes) for answer in answers]


def _score(answer: str | None, votes: Counter[str]) -> Score:
    total = votes.total()
    if answer is None:
        return Score(0.0, "it has no final answer")
    share = votes[answer] / total if total else 0.0
    return Score(share, f"{votes[answer]} of {total} first samples have its answer, {answer!r}")


def _by_pattern(pattern: str) -> Callable[[str], str | None]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigurationError(f"{pattern!r} is not a regular expression: {error}") from error

    def answer(response: str) -> str | None:
        found = list(compiled.finditer(response))
        if not found:
            return None
        return (found[-1][1 if compiled.groups else 0] or "").strip()

    return answer

"""What a run consumed: one `Usage` per stage (node), added up without double counting.

Model calls make them (`models.sampling`, the reward models' scores), nodes put them in the state
and in the cache, the command line and reports print them.
"""

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12


class Usage(TypedDict):
    """Counters of one stage. Tokens are the provider's own counts; 0 where it reports none."""

    requests: int
    """Calls made: one HTTP request counts once, however many completions it returned."""
    prompt_tokens: int
    """Prompt tokens sent, cached ones included."""
    cached_tokens: int
    """Prompt tokens that the provider served from its prefix cache."""
    completion_tokens: int
    """Tokens generated, over all completions."""
    unusable: int
    """Replies that were empty or could not be parsed, and were retried."""
    truncated: int
    """Replies cut by the token limit (finish_reason "length"), used as they are."""
    score_cache_hits: int
    """Rewards taken from the score cache instead of the reward model."""
    seconds: float
    """Wall time spent waiting for the stage's calls."""


Ledger = dict[str, Usage]
"""Stage name (the node's name) -> what it has consumed so far in the run."""


def no_usage() -> Usage:
    """A `Usage` of zeros."""
    return Usage(
        requests=0,
        prompt_tokens=0,
        cached_tokens=0,
        completion_tokens=0,
        unusable=0,
        truncated=0,
        score_cache_hits=0,
        seconds=0.0,
    )


def add_usage(first: Usage, second: Usage) -> Usage:
    """The sum of two usages, counter by counter."""
    one, other = cast("Mapping[str, Any]", first), cast("Mapping[str, Any]", second)
    total = Usage(**{name: one[name] + other[name] for name in Usage.__annotations__})
    return {**total, "seconds": round(total["seconds"], 6)}


def add_ledgers(ledgers: Iterable[Ledger]) -> Ledger:
    """What several runs consumed together, stage by stage."""
    total: Ledger = {}
    for ledger in ledgers:
        for stage, usage in ledger.items():
            total |= charge(total, stage, usage)
    return total


_spending: ContextVar[Usage | None] = ContextVar("tpo_spending", default=None)


@contextmanager
def spending() -> Generator[Usage]:
    """Collects what is said by `spend` in here, in tasks begun in here as well.

    A reward model's `score` returns rewards and nothing else; this is how it tells what they took.
    What an error interrupts has consumed all the same: then it is told to whoever collects outside.
    """
    spent = no_usage()
    token = _spending.set(spent)
    try:
        yield spent
    except BaseException:
        _spending.reset(token)
        spend(spent)
        raise
    _spending.reset(token)


def spend(usage: Usage) -> None:
    """Say that so much was consumed, to whoever collects it; call it on the caller's task.

    Only what is known: tokens that a model counted, or that its provider reported.
    """
    spent = _spending.get()
    if spent is not None:
        spent.update(add_usage(spent, usage))


def charge(ledger: Mapping[str, Usage], stage: str, usage: Usage) -> Ledger:
    """The entry of `stage` after it has consumed `usage` on top of what it had."""
    return {stage: add_usage(ledger.get(stage, no_usage()), usage)}


def with_entries(ledger: Ledger, entries: Ledger) -> Ledger:
    """The ledger with new entries; one with an entry of `sample` begins a new run's ledger."""
    return entries if "sample" in entries else {**ledger, **entries}


def total_tokens(ledger: Mapping[str, Usage]) -> int:
    """Prompt and completion tokens of all stages but the reward model's.

    The budget `max_total_tokens` counts these: what a provider bills for text.
    """
    return sum(
        usage["prompt_tokens"] + usage["completion_tokens"]
        for stage, usage in ledger.items()
        if stage != "reward_score"
    )

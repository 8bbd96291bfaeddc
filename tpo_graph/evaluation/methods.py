"""The methods that are compared, and budgets at which they are equal.

All but best-of-N are one loop with different prompts and strategies (`strategies.methods`);
best-of-N is the loop at depth 0, with as many samples as the loop's budget buys.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from langchain_core.language_models import BaseChatModel

from tpo_graph.costs import paper_flops
from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.finished import Finished
from tpo_graph.evaluation.results import Budget, Method
from tpo_graph.prompts import PromptSet, load_prompts
from tpo_graph.strategies.methods import METHODS, NEUTRAL

DEFAULT = ("tpo", "revision", "best-of-n")
_BEST_OF = re.compile(r"best-of-(2?n|[1-9]\d{0,3})")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")


@dataclass(frozen=True)
class Loop:
    """TPO, or the same loop with other prompts."""

    name: str
    prompts: str | PromptSet
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Strategies, and the depth where the method has its own; TPO's are those of the bench."""
    critic: BaseChatModel | None = None
    """Another critic than the bench's."""

    def method(self, width: int, depth: int, model: str) -> Method:
        """This loop at one setting."""
        prompts = self.prompts if isinstance(self.prompts, str) else self.prompts.name
        settings = dict(self.settings)
        depth = settings.pop("depth", depth)
        named = METHODS.get(self.name)
        label = f"{named.title if named else self.name} D{depth}-N{width}"
        control = named is not None and named.control
        return Method(
            self.name, label, width, depth, prompts, model, settings=settings, control=control
        )


@dataclass(frozen=True)
class BestOf:
    """Best-of-N."""

    n: int | None
    """None: as many as the budget buys."""
    each: bool = False
    """For every loop, at its own cost and at twice that."""


def best_of(n: int, model: str, read_off: str | None = None) -> Method:
    """Best-of-n as a method; its name holds n, so that another n is another batch."""
    return Method(f"best-of-{n}", f"best-of-{n}", n, 0, "", model, read_off)


def parse_methods(wanted: Sequence[str | Loop], prompts: str | PromptSet) -> list[Loop | BestOf]:
    """Methods from their names.

    Args:
        wanted: a name of `strategies.methods.METHODS`; "best-of-n", "best-of-2n" (every loop
            against best-of-N at its own cost and at twice that) or "best-of-30" (a number of your
            own); "NAME=SET" for another prompt set, a name of the package's or a folder, of that
            method or of the plain loop; "all" of them; or a `Loop` of your own.
        prompts: the prompt set of "tpo".

    Raises:
        ConfigurationError: an unknown method, one given twice, or none; a wrong prompt set.
    """
    found: dict[str, Loop | BestOf] = {}
    for text in _all(wanted):
        if isinstance(text, Loop):
            found[text.name] = text
            continue
        name, given, source = text.partition("=")
        if match := _BEST_OF.fullmatch(text):
            number = None if match[1].endswith("n") else int(match[1])
            method = BestOf(number, each=match[1] == "2n")
        elif given and source and _NAME.fullmatch(name) and not name.startswith("best-of-"):
            method = _loop(name, source)
        elif name in METHODS and not given:
            method = _loop(name, prompts if METHODS[name].settings["prompts"] == "tpo" else None)
        else:
            raise ConfigurationError(
                f"unknown method {text!r}: give {', '.join(METHODS)}, best-of-n, best-of-2n, "
                "best-of-30 with a number of your own, NAME=SET for a prompt set (a folder) of "
                "your own, or all"
            )
        if name in found:
            raise ConfigurationError(f"the method {name!r} is given twice")
        found[name] = method
    if not found:
        raise ConfigurationError(f"no method to compare: give some of {', '.join(DEFAULT)}")
    return list(found.values())


def _all(wanted: Sequence[str | Loop]) -> Iterable[str | Loop]:
    for one in wanted:
        yield from [*METHODS, "best-of-n", "best-of-2n"] if one == "all" else [one]


def _loop(name: str, prompts: str | PromptSet | None) -> Loop:
    settings: dict[str, Any] = {}
    if name in METHODS:
        settings = dict(METHODS[name].settings)
        prompts = prompts or settings["prompts"]
        del settings["prompts"]
        if settings:  # or its strategies are the user's, as TPO's are
            settings = {**NEUTRAL, **settings}
    assert prompts is not None
    if isinstance(prompts, str):
        load_prompts(prompts)  # what is wrong with a set is said before anything is run
    return Loop(name, prompts, settings)


def equal_n(budget: Budget, width: int, depth: int, measured: Iterable[Finished] = ()) -> int:
    """The N of best-of-N that costs what the loop does; the nearest whole number, at least 1.

    Args:
        budget: "samples" counts responses only; "flops" is the paper's accounting, in which an
            update or critic call costs twice a first sample; "tokens" is what was `measured`.
        width, depth: of the loop.
        measured: finished runs of the loop, for "tokens".

    Raises:
        ConfigurationError: there are no tokens to go by.
    """
    if budget == "samples":
        return width * (1 + depth)
    if budget == "flops":
        return round(paper_flops(width, depth) / paper_flops(1, 0))
    return _by_tokens(list(measured))


def _by_tokens(runs: list[Finished]) -> int:
    """N such that N samples cost as many tokens as these runs did on average.

    A request with `n` answers is billed one prompt; where each sample took a request of its own,
    each brings its prompt along.
    """
    tokens = fmean(run.tokens for run in runs) if runs else 0
    if not tokens:
        raise ConfigurationError(
            "no tokens to make budgets equal by: the policy reports none. "
            "Use --budget samples or flops."
        )
    drawn = sum(len(run.openings) for run in runs)
    requests = sum(run.ledger["sample"]["requests"] for run in runs)
    prompt = sum(run.ledger["sample"]["prompt_tokens"] for run in runs) / max(1, requests)
    each = sum(run.ledger["sample"]["completion_tokens"] for run in runs) / drawn
    if requests >= drawn > len(runs):
        return max(1, round(tokens / (prompt + each)))
    return max(1, round((tokens - prompt) / max(each, 1)))

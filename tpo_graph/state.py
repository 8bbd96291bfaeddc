"""The graph's state: what one step hands to the next, and what a person reads in Studio.

Plain JSON values only, so that any checkpointer stores it and strict serializers accept it. Short
values first, long texts last. It holds the newest samples and the two extremes of the cache, never
the whole cache: its size does not grow with depth (but for one short `history` row per iteration).
"""

from typing import Annotated, NotRequired

from langchain_core.messages import AnyMessage
from langgraph.channels import EphemeralValue
from langgraph.graph import add_messages
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from tpo_graph.candidates import Candidate, IterationSummary, rank
from tpo_graph.errors import ConfigurationError
from tpo_graph.stopping import StopReason
from tpo_graph.usage import Ledger, with_entries


class Place(TypedDict):
    """Where a candidate stands in the cache."""

    iteration: int
    position: int


class Review(TypedDict):
    """What a person decided when the run waited for one (`tpo_graph.nodes.review`)."""

    stop: bool
    """End the run."""
    criteria: str
    """What matters to them, in their words; the critic reads it from here on."""
    chosen: Place | None
    """Take this one instead of the best: in this iteration's pair, or as the answer on a stop."""
    rejected: Place | None
    """Compare with this one instead of the worst, in this iteration."""


class Failure(TypedDict):
    """A step that failed for good after the first selection (`tpo_graph.nodes.step`)."""

    step: str
    """The node."""
    error: str
    """The error in one line."""
    may_pass: bool
    """Whether the same step may succeed another time: nothing says that its input is at fault."""


class TPOInput(TypedDict):
    """What a caller gives."""

    messages: Annotated[list[AnyMessage], add_messages]
    """The conversation to answer: system prompt, history and the query."""
    drafts: NotRequired[Annotated[list[str], EphemeralValue]]
    """Responses that exist already (an agent's own answer): the first of the first samples."""


class TPOState(TypedDict):
    """Everything a step leaves behind; also the graph's output."""

    run_id: str
    """Identifies the run in the cache; new for every call, the same after a resume."""
    iteration: int
    """0 while the first samples are made and scored, i after the i-th update."""
    stop_reason: StopReason | None
    """Why the run ended; None while it goes on."""
    failure: NotRequired[Failure | None]
    """What ended it, where `stop_reason` is "failed"."""
    rewards: list[float]
    """Rewards of `samples`, in their order."""
    finish_reasons: NotRequired[list[str | None]]
    """Why each of `samples` ended: "stop", "length" when the token limit cut it, or the provider's
    other word; null where it gave none."""
    reasons: NotRequired[list[str]]
    """What the reward model said about each of `samples`, shortened; empty where nothing."""
    history: list[IterationSummary]
    """One row of numbers per scored iteration."""
    usage: Annotated[Ledger, with_entries]
    """Per stage: requests, tokens, seconds so far."""
    chosen: Candidate | None
    """The best candidate of all iterations so far (argmax of the cache)."""
    rejected: Candidate | None
    """The worst candidate of all iterations so far (argmin of the cache)."""
    shown: NotRequired[list[list[Place]]]
    """What a strategy other than the pair shows: one group, or one per sample of the update."""
    kept: NotRequired[list[Candidate]]
    """The best candidates of all iterations, as many as the setting `select` needs."""
    finalists: NotRequired[list[Candidate]]
    """Those among which the setting `pick` chooses, where it is not argmax."""
    answer: NotRequired[Candidate | None]
    """What it chose, at the end."""
    review: Review | None
    """A person's decisions, if the run was told to ask for them and they changed anything."""
    loss: str
    """Textual loss: why `chosen` won over `rejected`. Empty if no usable one came."""
    gradient: str
    """Textual gradient: instructions made from the loss. Empty if no usable one came."""
    samples: list[str]
    """The newest responses, in the order they came."""
    messages: Annotated[list[AnyMessage], add_messages]
    """The conversation; at the end, the best response is appended as one AIMessage."""
    drafts: NotRequired[Annotated[list[str], EphemeralValue]]
    """Given responses; `sample` reads them, and they are gone after it."""


class StateUpdate(TypedDict, total=False):
    """What a node changes: some of the keys of `TPOState`."""

    run_id: str
    iteration: int
    stop_reason: StopReason | None
    failure: Failure | None
    rewards: list[float]
    finish_reasons: list[str | None]
    reasons: list[str]
    history: list[IterationSummary]
    usage: Ledger
    chosen: Candidate | None
    rejected: Candidate | None
    shown: list[list[Place]]
    kept: list[Candidate]
    finalists: list[Candidate]
    answer: Candidate | None
    review: Review | None
    loss: str
    gradient: str
    samples: list[str]
    messages: list[AnyMessage]


def place_of(candidate: Candidate) -> Place:
    """Where a candidate stands in the cache."""
    return Place(iteration=candidate["iteration"], position=candidate["position"])


def newest_candidates(state: TPOState) -> list[Candidate]:
    """The newest samples with their rewards, as entries of the cache."""
    samples, rewards = state["samples"], state["rewards"]
    # Checkpoints of earlier versions do not have them.
    finish_reasons = state.get("finish_reasons") or [None] * len(samples)
    reasons = state.get("reasons") or [""] * len(samples)
    candidates: list[Candidate] = []
    for response, reward, finish_reason, reason in zip(
        samples, rewards, finish_reasons, reasons, strict=True
    ):
        candidate = Candidate(
            iteration=state["iteration"],
            position=len(candidates),
            reward=reward,
            response=response,
        )
        if finish_reason is not None:
            candidate["finish_reason"] = finish_reason
        if reason:
            candidate["reason"] = reason
        candidates.append(candidate)
    return candidates


def compared(state: TPOState) -> tuple[Candidate, Candidate]:
    """The critic's pair: best and worst, unless a strategy or a person chose others.

    Raises:
        ConfigurationError: `select` has not chosen a pair (a state edited by hand).
    """
    chosen, rejected = state["chosen"], state["rejected"]
    if chosen is None or rejected is None:
        raise ConfigurationError(
            f"a chosen and a rejected response are needed, but the state has "
            f"{chosen!r} and {rejected!r}"
        )
    if groups := state.get("shown"):
        chosen = _at(state, groups[0][0]) or chosen
        rejected = _at(state, groups[0][-1]) or rejected
    review = state["review"]
    if review is None:
        return chosen, rejected
    return (
        _at(state, review["chosen"]) or chosen,
        _at(state, review["rejected"]) or rejected,
    )


def shown(state: TPOState) -> list[list[Candidate]]:
    """What the critic and the update see: one group, or one for each sample of the update in turn.

    The pair, in its two places, unless a strategy shows more; a person's pair takes their place.
    """
    pair, review = list(compared(state)), state["review"]
    overruled = review is not None and (review["chosen"] or review["rejected"])
    groups = [] if overruled else state.get("shown") or []
    found = [[c for place in group if (c := _at(state, place))] for group in groups]
    return [group for group in found if group] or [pair]


def person_stops(state: TPOState) -> bool:
    """Whether a person has said that the run is to end."""
    return state["review"] is not None and state["review"]["stop"]


def candidates_at_hand(state: TPOState) -> list[Candidate]:
    """The newest candidates, the extremes of all iterations and what is kept, the best first."""
    extremes = [c for c in (state["chosen"], state["rejected"]) if c is not None]
    kept = [*state.get("kept", []), *state.get("finalists", [])]
    known = [*newest_candidates(state), *extremes, *kept]
    by_place = {(c["iteration"], c["position"]): c for c in known}
    return sorted(by_place.values(), key=rank)


def _at(state: TPOState, place: Place | None) -> Candidate | None:
    if place is None:
        return None
    return next((c for c in candidates_at_hand(state) if place_of(c) == place), None)

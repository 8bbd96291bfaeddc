"""A person in the loop: the run waits, a person answers, the run continues.

`select` and `update` ask here before they do anything else, so a step that runs again when the
answer arrives repeats no model call, no event and no row. The question reaches the caller as
LangGraph's interrupt, the answer comes back with `Command(resume=...)`; one that makes no sense is
asked for again, with the reason. Without `interrupt_at` nobody is asked and nothing changes.
"""

from collections.abc import Callable
from typing import Any, Literal, NotRequired, TypedDict, TypeVar

from langgraph.config import get_config
from langgraph.runtime import Runtime
from langgraph.types import interrupt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tpo_graph.cache import Step
from tpo_graph.candidates import Candidate
from tpo_graph.context import TPOContext
from tpo_graph.errors import ConfigurationError, invalid_settings
from tpo_graph.events import Reviewed
from tpo_graph.nodes.handles import Handles
from tpo_graph.state import Review, StateUpdate, TPOState, candidates_at_hand, compared, place_of
from tpo_graph.stopping import StopReason

_HOW_PAIR = (
    '{"action": "continue"} keeps this pair; add "chosen": NUMBER and/or "rejected": NUMBER '
    'for another one, "criteria": "..." for what matters to you. {"action": "stop"} ends the run '
    'with the best candidate, or with "chosen": NUMBER.'
)
_HOW_GRADIENT = (
    '{"action": "continue"} keeps these instructions; add "gradient": "..." for your own, '
    '"criteria": "..." for what matters to you. {"action": "stop"} ends the run with the best '
    "candidate."
)


class Numbered(TypedDict):
    """A candidate as a person sees it."""

    number: int
    """What to call it in the answer; 1 has the highest reward."""
    reward: float
    iteration: int
    response: str


class PairQuestion(TypedDict):
    """What a person sees when the run waits at `select`."""

    error: NotRequired[str]
    """Why the last answer was refused."""
    question: str
    how: str
    """How to answer."""
    iteration: int
    stop_reason: StopReason | None
    """Why the run ends here unless they choose another answer; None if it would go deeper."""
    chosen: int
    """Number of the candidate that the critic will see as the better one."""
    rejected: int
    """Number of the candidate that the critic will see as the worse one."""
    candidates: list[Numbered]
    """This iteration's, and the extremes of all iterations; the best first."""


class GradientQuestion(TypedDict):
    """What a person sees when the run waits with a new textual gradient, before `update`."""

    error: NotRequired[str]
    question: str
    how: str
    iteration: int
    gradient: str
    loss: str


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    action: Literal["continue", "stop"] = Field(
        default="continue", description="Whether the run continues."
    )
    criteria: str | None = Field(
        default=None,
        min_length=1,
        max_length=20_000,
        description="What matters to you, in your words; the critic reads it from here on.",
    )


class PairAnswer(_Answer):
    """What a person may answer at `select`."""

    chosen: int | None = Field(
        default=None, description="Number of the better candidate; of the answer on a stop."
    )
    rejected: int | None = Field(default=None, description="Number of the worse candidate.")


class GradientAnswer(_Answer):
    """What a person may answer to a textual gradient."""

    gradient: str | None = Field(
        default=None, min_length=1, description="Instructions to follow instead."
    )


class _RefusedError(Exception):
    """An answer that cannot be followed; the text says why."""


A = TypeVar("A", bound=_Answer)


def can_wait(context: TPOContext, runtime: Runtime[TPOContext]) -> None:
    """Refuse, before anything is paid for, a run that would wait without a thread to resume."""
    if not context.interrupt_at:
        return
    info = runtime.execution_info
    if info is None or info.thread_id is None or not _has_checkpointer():
        raise ConfigurationError(
            f"interrupt_at={context.interrupt_at!r} needs a checkpointer and a thread: give the "
            "outermost graph or agent a checkpointer (checkpointer=InMemorySaver()), and invoke it "
            'with {"configurable": {"thread_id": ...}}.'
        )


def _has_checkpointer() -> bool:
    """Whether the graph has one, as far as LangGraph tells its subgraphs."""
    told = get_config().get("configurable", {})
    return told.get("__pregel_checkpointer", True) is not None


def review_pair(state: TPOState, runtime: Runtime[TPOContext], tpo: Handles) -> Review | None:
    """Let a person look at what `select` is about to decide.

    Args:
        state: as `select` would leave it.

    Returns:
        The `review` to keep: what they said now, on top of the criteria they gave before.
    """
    context = runtime.context
    before = state["review"]
    if before is not None:  # a pair is chosen for one iteration, the rest stays said
        before = Review(
            stop=before["stop"], criteria=before["criteria"], chosen=None, rejected=None
        )
    if "select" not in context.interrupt_at or (before is not None and before["stop"]):
        return before
    candidates = candidates_at_hand(state)
    question = _pair_question({**state, "review": before}, candidates)

    def check(answer: PairAnswer) -> None:
        _check_criteria(answer, tpo)
        for name, number in (("chosen", answer.chosen), ("rejected", answer.rejected)):
            if number is not None and not 1 <= number <= len(candidates):
                raise _RefusedError(f"{name}={number}: there are candidates 1 to {len(candidates)}")
        given = answer.model_fields_set - {"action"}
        if answer.action == "stop" and given - {"chosen"}:
            raise _RefusedError('on "stop" nothing is compared: only "chosen" can be given')
        if answer.action == "continue" and given and state["stop_reason"] is not None:
            raise _RefusedError(
                f"the run ends here ({state['stop_reason']}) and nothing more is compared. "
                'To answer with another candidate: {"action": "stop", "chosen": NUMBER}'
            )
        pair = (answer.chosen or question["chosen"], answer.rejected or question["rejected"])
        if answer.action == "continue" and given - {"criteria"} and pair[0] == pair[1]:
            raise _RefusedError(f"chosen and rejected are both candidate {pair[0]}")

    answer = _ask(question, PairAnswer, check)
    _tell(state, runtime, "select", answer)
    review = _added(before, answer)
    for role, number in (("chosen", answer.chosen), ("rejected", answer.rejected)):
        review[role] = None if number is None else place_of(candidates[number - 1])
    return review if any(review.values()) else None


async def review_gradient(
    state: TPOState, runtime: Runtime[TPOContext], tpo: Handles
) -> StateUpdate:
    """Let a person look at the textual gradient, and keep what they change.

    Returns:
        The new `gradient` and `review`, where they changed.
    """
    if "gradient" not in runtime.context.interrupt_at:
        return StateUpdate()
    question = GradientQuestion(
        question="Are these the instructions to follow?",
        how=_HOW_GRADIENT,
        iteration=state["iteration"],
        gradient=state["gradient"],
        loss=state["loss"],
    )

    def check(answer: GradientAnswer) -> None:
        _check_criteria(answer, tpo)
        if answer.action == "stop" and answer.model_fields_set - {"action"}:
            raise _RefusedError('on "stop" nothing is written: give nothing else')
        if answer.gradient is not None and not answer.gradient.strip():
            raise _RefusedError("the gradient is blank")

    answer = _ask(question, GradientAnswer, check)
    _tell(state, runtime, "gradient", answer)
    changes = StateUpdate()
    if answer.action == "stop" or answer.criteria is not None:
        changes["review"] = _added(state["review"], answer)
    if answer.gradient is not None:
        changes["gradient"] = answer.gradient
        iteration = state["iteration"]
        step = Step(iteration=iteration, gradient=answer.gradient)
        await tpo.cache.record(state["run_id"], iteration, "gradient", step=step)
    return changes


def _pair_question(state: TPOState, candidates: list[Candidate]) -> PairQuestion:
    chosen, rejected = compared(state)
    ends = state["stop_reason"] is not None
    return PairQuestion(
        question="Is this the answer?" if ends else "Which pair should the critic compare?",
        how=_HOW_PAIR,
        iteration=state["iteration"],
        stop_reason=state["stop_reason"],
        chosen=1 + candidates.index(chosen),
        rejected=1 + candidates.index(rejected),
        candidates=[
            Numbered(
                number=number,
                reward=candidate["reward"],
                iteration=candidate["iteration"],
                response=candidate["response"],
            )
            for number, candidate in enumerate(candidates, 1)
        ],
    )


def _check_criteria(answer: _Answer, tpo: Handles) -> None:
    if answer.criteria is None:
        return
    if not answer.criteria.strip():
        raise _RefusedError("the criteria are blank")
    if not tpo.prompts.uses_criteria:
        raise _RefusedError(
            f"criteria would be ignored: no prompt of the set {tpo.prompts.name!r} has the "
            "variable {criteria}"
        )


def _added(before: Review | None, answer: _Answer) -> Review:
    """What the person said before, with the new criteria, and whether to stop."""
    said = before or Review(stop=False, criteria="", chosen=None, rejected=None)
    criteria = [text for text in (said["criteria"], answer.criteria) if text]
    return {**said, "stop": answer.action == "stop", "criteria": "\n\n".join(criteria)}


def _tell(
    state: TPOState,
    runtime: Runtime[TPOContext],
    at: Literal["select", "gradient"],
    answer: _Answer,
) -> None:
    runtime.stream_writer(
        Reviewed(
            event="reviewed",
            run_id=state["run_id"],
            iteration=state["iteration"],
            at=at,
            action=answer.action,
            changed=sorted(answer.model_fields_set - {"action"}),
        )
    )


def _ask(question: Any, form: type[A], check: Callable[[A], None]) -> A:
    """Ask until the answer can be followed. Each `interrupt` ends this call until it is answered;
    the answers given so far come back in order when the step runs again."""
    asked = question
    while True:
        said = interrupt(asked, response_schema=form.model_json_schema())
        try:
            if not isinstance(said, dict):
                raise _RefusedError(f"{said!r} is not an object")
            answer = form.model_validate(said)
            check(answer)
            return answer
        except ValidationError as e:
            error = str(invalid_settings(e, form))
        except _RefusedError as e:
            error = str(e)
        asked = {"error": f"{error}. Nothing was changed; answer again.", **question}

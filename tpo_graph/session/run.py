"""One query, one answer: `optimize` and `aoptimize`."""

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from langchain_core.language_models import BaseChatModel
from langgraph.runtime import RunControl

from tpo_graph.concurrency.background import run_in_background
from tpo_graph.context import TPOContext
from tpo_graph.conversation import Query, as_messages
from tpo_graph.errors import ConfigurationError
from tpo_graph.models.connection import connected
from tpo_graph.prompts import PromptSet
from tpo_graph.rewards import RewardFunction, RewardModel
from tpo_graph.session.result import TPOResult
from tpo_graph.session.running import OnEvent
from tpo_graph.session.session import open_session
from tpo_graph.strategies import split_objects

if TYPE_CHECKING:
    from tpo_graph.store import Store


def optimize(
    query: Query,
    *,
    model: str | BaseChatModel,
    reward_model: str | RewardModel | RewardFunction,
    critic: str | BaseChatModel | None = None,
    prompts: str | PromptSet = "tpo",
    database: str | None = None,
    reuse_scores: bool = True,
    on_event: OnEvent | None = None,
    control: RunControl | None = None,
    run_id: str | None = None,
    audit: str | RewardModel | RewardFunction | None = None,
    audit_fallback: bool = False,
    **settings: Any,
) -> TPOResult:
    """Answer one query with TPO and wait for the result; see `aoptimize`."""
    return run_in_background(
        aoptimize(
            query,
            model=model,
            reward_model=reward_model,
            critic=critic,
            prompts=prompts,
            database=database,
            reuse_scores=reuse_scores,
            on_event=on_event,
            control=control,
            run_id=run_id,
            audit=audit,
            audit_fallback=audit_fallback,
            **settings,
        )
    )


async def aoptimize(
    query: Query,
    *,
    model: str | BaseChatModel,
    reward_model: str | RewardModel | RewardFunction,
    critic: str | BaseChatModel | None = None,
    prompts: str | PromptSet = "tpo",
    database: "str | Store | None" = None,
    reuse_scores: bool = True,
    on_event: OnEvent | None = None,
    control: RunControl | None = None,
    run_id: str | None = None,
    audit: str | RewardModel | RewardFunction | None = None,
    audit_fallback: bool = False,
    **settings: Any,
) -> TPOResult:
    """Answer one query with Test-Time Preference Optimization (paper, Algorithm 1).

    Args:
        query: the question, or a conversation as LangChain messages.
        model, reward_model, critic, prompts: as in `create_tpo_graph`.
        database: where the run is kept, step by step, to be resumed, extended and looked at: a URL,
            or a store that is open already. None keeps nothing.
        reuse_scores: whether rewards that the database knows already are taken from it.
        on_event: called with each progress event (`tpo_graph.events`).
        control: its `request_drain()` stops the run before its next step.
        run_id: what to call the run; a new unique name when None.
        audit: a second reward model that scores the best first sample and the answer; when the
            reward rose and the audit fell, `result.audit.overoptimized` says so.
        audit_fallback: answer with the best first sample then.
        settings: fields of `TPOContext`: `depth`, `width`, `seed`, `criteria` and so on (`select`,
            `pick` and `stop` may be objects of your own, `tpo_graph.strategies`); and
            `model_options`, `critic_options`, `reward_model_options`, `audit_options`: how the
            server of a role that is given by name is reached, in LangChain's words (`base_url`,
            `api_key` or `api_key_env`, `default_headers`, `extra_body`, `timeout`, `max_retries`).
            What of it is secret is stored nowhere.

    Raises:
        ConfigurationError: an option, a name or a prompt set is wrong; nothing was run.
        PolicyError: the policy or the critic failed.
        RewardError: the reward model failed.
        StoreError: the database failed.
        GraphDrained: `control` stopped it.
    """
    model = connected(model, settings.pop("model_options", None), "model")
    critic = connected(critic, settings.pop("critic_options", None), "critic")
    reward_model = connected(
        reward_model, settings.pop("reward_model_options", None), "reward_model"
    )
    audit = connected(audit, settings.pop("audit_options", None), "audit")
    settings, strategies = split_objects(settings)
    context = make_context(settings)
    messages = as_messages(query)
    async with open_session(
        model,
        reward_model,
        critic,
        prompts,
        database,
        reuse_scores=reuse_scores,
        audit=audit,
        audit_fallback=audit_fallback,
        choices={"strategies": strategies},
    ) as runs:
        return await runs.run(
            messages, context, run_id or str(uuid4()), on_event=on_event, control=control
        )


def make_context(settings: dict[str, Any]) -> TPOContext:
    """A `TPOContext` of these fields.

    Raises:
        ConfigurationError: an unknown field, or a value out of bounds; shows it.
    """
    context = TPOContext.checked(settings)
    if context.interrupt_at:
        raise ConfigurationError(
            f"interrupt_at={context.interrupt_at!r}: this runs to the end and cannot wait for a "
            "person. Use create_tpo_graph(..., interrupt_at=...)."
        )
    return context

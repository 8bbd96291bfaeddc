"""What a run is made of, declared once: `Inputs` for who calls, `Setup` for who runs.

A new input of a run is a key of `_Roles` (of `_Begun`, if a resumed run has it from its store), a
field of `Setup` and what uses it. `optimize`, `resume`, batches, the server and the commands hand
it on unseen; for the commands it is a field of `settings.Settings`, too.
"""

import inspect
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, fields
from functools import wraps
from typing import TYPE_CHECKING, Any, Required, Self, TypeVar, get_args

from langchain_core.language_models import BaseChatModel
from langgraph.checkpoint.base import BaseCheckpointSaver
from typing_extensions import TypedDict  # as the settings are

from tpo_graph.cache import Cache
from tpo_graph.context import Limits, TPOContext
from tpo_graph.errors import ConfigurationError, refuse_unknown
from tpo_graph.graph import TPOGraph, create_tpo_graph
from tpo_graph.models.connection import ROLES, connected
from tpo_graph.prompts import PromptSet
from tpo_graph.redaction import redacted
from tpo_graph.rewards import RewardFunction, RewardModel
from tpo_graph.strategies import RunSettings, Strategy, split_objects

if TYPE_CHECKING:
    from tpo_graph.store import Store

F = TypeVar("F", bound=Callable[..., Any])


class _Roles(TypedDict, total=False):
    critic: str | BaseChatModel | None
    """Writes loss and gradient; the policy itself when None."""
    audit: str | RewardModel | RewardFunction | None
    """A second reward model that scores the best first sample and the answer; when the reward rose
    and the audit fell, `result.audit.overoptimized` says so."""
    audit_fallback: bool
    """Answer with the best first sample then."""
    model_options: Mapping[str, Any] | None
    """How the policy's server is reached, in LangChain's words: `base_url`, `api_key` or
    `api_key_env` (the name of a variable), `default_headers`, `extra_body`, `timeout`,
    `max_retries`. What of it is secret is stored nowhere."""
    critic_options: Mapping[str, Any] | None
    """The same for the critic's, where it is given by name."""
    reward_model_options: Mapping[str, Any] | None
    """The same for the reward model's."""
    audit_options: Mapping[str, Any] | None
    """The same for the audit's."""


class _Begun(_Roles, RunSettings, total=False):
    model: Required[str | BaseChatModel]
    """The policy: "provider:model", "local:PATH_OR_HUB_ID" or a LangChain chat model."""
    reward_model: Required[str | RewardModel | RewardFunction]
    """A name such as "local:PATH_OR_HUB_ID" (the others: `load_reward_model`), a `RewardModel`, or
    f(query, response) -> float."""
    prompts: str | PromptSet
    """ "tpo", "revision", a folder, or a loaded set."""
    reuse_scores: bool
    """Whether rewards that the database knows already are taken from it."""


class StoredInputs(_Begun, total=False):
    """The inputs of runs whose database is an argument of its own; and, as in `optimize`, fields of
    `TPOContext`."""


class Inputs(_Begun, total=False):
    """The inputs of a run; and fields of `TPOContext`: `depth`, `width`, `seed`, `criteria` and so
    on. `select`, `pick` and `stop` may be objects of your own (`tpo_graph.strategies`)."""

    database: "str | Store | None"
    """Where the run is kept, step by step, to be resumed, extended and looked at: a URL, or (async)
    a store that is open already. None keeps nothing."""


class InputsAgain(_Roles, total=False):
    """What a stored run may be given again; what is None or absent is as the run began."""

    model: str | BaseChatModel | None
    """The policy: needed where the run was given an object instead of a name."""
    reward_model: str | RewardModel | RewardFunction | None
    """Needed, as the policy, in place of an object."""
    prompts: str | PromptSet | None
    """Needed, as the policy, in place of an object."""
    strategies: Sequence[Strategy]
    """The objects of your own that the run began with."""


class ResumeInputs(InputsAgain, Limits, total=False):
    """`InputsAgain`, and other values for settings of what is left of the run."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a run's context may name, as in `create_tpo_graph`."""

    policies: Mapping[str, str | BaseChatModel] | None = None
    critics: Mapping[str, str | BaseChatModel] | None = None
    reward_models: Mapping[str, str | RewardModel | RewardFunction] | None = None
    strategies: Sequence[Strategy] = ()


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a run is made of. Options of a role's server travel with its name (`connected`)."""

    model: str | BaseChatModel
    reward_model: str | RewardModel | RewardFunction
    critic: str | BaseChatModel | None = None
    prompts: str | PromptSet = "tpo"
    database: "str | Store | None" = None
    reuse_scores: bool = True
    audit: str | RewardModel | RewardFunction | None = None
    audit_fallback: bool = False
    choices: Choices = Choices()

    @classmethod
    def given(cls, inputs: Mapping[str, Any], **more: Any) -> tuple[Self, TPOContext]:
        """The setup and the settings of a run, from the arguments of a function that runs it.

        Args:
            inputs: `Inputs`, as far as they are given.
            more: fields of `Setup` that the function has apart.

        Raises:
            TypeError: `model` or `reward_model` is missing.
            ConfigurationError: an unknown field, or a value out of bounds; shows it.
        """
        settings, strategies = split_objects(inputs)
        taken = {name: settings.pop(name) for name in KEYS & settings.keys()}
        for role in ROLES:
            options = taken.pop(f"{role}_options", None)
            if options is not None:
                taken[role] = connected(taken.get(role), options, role)
        for name in ("model", "reward_model"):
            if name not in {**taken, **more}:
                raise TypeError(f"the argument {name!r} is missing: give a name or an object")
        taken.setdefault("choices", Choices(strategies=tuple(strategies)))
        return cls(**{**taken, **more}), make_context(settings)

    def named(self) -> dict[str, Any]:
        """By what to load its parts again, redacted; None for an object."""
        parts = {name: getattr(self, name) for name in (*ROLES, "prompts")}
        return {
            name: redacted(part) if isinstance(part, str) else None for name, part in parts.items()
        }

    def graph(
        self,
        *,
        cache: Cache | None = None,
        checkpointer: BaseCheckpointSaver[Any] | bool | None = None,
        defaults: Mapping[str, Any] | None = None,
        name: str = "tpo",
    ) -> TPOGraph:
        """Its graph; arguments and errors are those of `create_tpo_graph`."""
        return create_tpo_graph(
            self.model,
            self.reward_model,
            critic=self.critic,
            prompts=self.prompts,
            cache=cache,
            checkpointer=checkpointer,
            defaults=defaults,
            name=name,
            **{each.name: getattr(self.choices, each.name) for each in fields(Choices)},
        )


KEYS = frozenset(Inputs.__annotations__) - set(RunSettings.__annotations__)
"""The inputs of a run, by name, without its settings."""
_DEFAULTS = {
    **{name: field.default for name, field in TPOContext.model_fields.items()},
    **{each.name: each.default for each in fields(Setup)},
}


def spelled_out(function: F, others: Mapping[str, Any] | None = None) -> F:
    """Let `help` and `inspect.signature` show the arguments behind `**inputs` one by one, and
    refuse others before anything is done.

    Args:
        function: the one that takes them; it may be async, or an async generator.
        others: defaults of those that are no field of `Setup`.
    """
    signature = inspect.signature(function)
    *own, rest = signature.parameters.values()
    (declared,) = get_args(rest.annotation)  # Unpack[...]
    begun = "model" in declared.__required_keys__
    defaults = {**(_DEFAULTS if begun else {"audit_fallback": False}), **(others or {})}
    shown = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=get_args(kind)[0] if required else kind,
            default=inspect.Parameter.empty if required else defaults.get(name),
        )
        for name, kind in declared.__annotations__.items()
        for required in [name in declared.__required_keys__]
    ]
    required = declared.__required_keys__
    shown.sort(key=lambda each: (each.name not in required, each.name not in ("width", "depth")))
    # What a run can be told nowhere but in a graph's context has an error of its own.
    known = {each.name for each in (*own, *shown)} | (
        TPOContext.model_fields.keys() if begun else set[str]()
    )
    checked = _checked(function, known)
    checked.__signature__ = signature.replace(parameters=[*own, *shown])
    return checked


def _checked(function: Any, known: Collection[str]) -> Any:
    """The function, refusing the names of arguments that it does not know."""
    if inspect.isasyncgenfunction(function):

        @wraps(function)
        async def items(*args: Any, **given: Any) -> AsyncGenerator[Any]:
            refuse_unknown(given, known)
            async with aclosing(function(*args, **given)) as found:
                async for item in found:
                    yield item

        return items
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def awaited(*args: Any, **given: Any) -> Any:
            refuse_unknown(given, known)
            return await function(*args, **given)

        return awaited

    @wraps(function)
    def called(*args: Any, **given: Any) -> Any:
        refuse_unknown(given, known)
        return function(*args, **given)

    return called


def make_context(settings: Mapping[str, Any]) -> TPOContext:
    """A `TPOContext` of these fields."""
    context = TPOContext.checked(dict(settings))
    if context.interrupt_at:
        raise ConfigurationError(
            f"interrupt_at={context.interrupt_at!r}: this runs to the end and cannot wait for a "
            "person. Use create_tpo_graph(..., interrupt_at=...)."
        )
    return context

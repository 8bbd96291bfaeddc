"""What a run is made of, declared once: `Inputs` for who calls, `Setup` for who runs.

A new input of a run is a key of `_Roles` (of `_Begun`, if a resumed run has it from its store), a
field of `Setup` and what uses it. `optimize`, `resume`, batches, the server and the commands hand
it on unseen; for the commands it is a field of `settings.Settings`, too.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Required, Self, TypeVar, get_args

from langchain_core.language_models import BaseChatModel
from langgraph.checkpoint.base import BaseCheckpointSaver
from typing_extensions import TypedDict

from tpo_graph.cache import Cache
from tpo_graph.context import TPOContext
from tpo_graph.errors import ConfigurationError
from tpo_graph.graph import TPOGraph, create_tpo_graph
from tpo_graph.models.connection import ROLES, connected
from tpo_graph.prompts import PromptSet
from tpo_graph.redaction import redacted
from tpo_graph.rewards import RewardFunction, RewardModel
from tpo_graph.strategies import Strategy, split_objects

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


class _Begun(_Roles, total=False):
    model: Required[str | BaseChatModel]
    """The policy: "provider:model", "local:PATH_OR_HUB_ID" or a LangChain chat model."""
    reward_model: Required[str | RewardModel | RewardFunction]
    """A name such as "local:PATH_OR_HUB_ID" (the others: `load_reward_model`), a `RewardModel`, or
    f(query, response) -> float."""
    prompts: str | PromptSet
    """ "tpo", "revision", a folder, or a loaded set."""
    reuse_scores: bool
    """Whether rewards that the database knows already are taken from it."""


class StoredInputs(_Begun, total=False, extra_items=Any):
    """The inputs of runs whose database is an argument of its own; and, as in `optimize`, fields of
    `TPOContext`."""


class Inputs(_Begun, total=False, extra_items=Any):
    """The inputs of a run; and fields of `TPOContext`: `depth`, `width`, `seed`, `criteria` and so
    on. `select`, `pick` and `stop` may be objects of your own (`tpo_graph.strategies`)."""

    database: "str | Store | None"
    """Where the run is kept, step by step, to be resumed, extended and looked at: a URL, or (async)
    a store that is open already. None keeps nothing."""


class InputsAgain(_Roles, total=False, extra_items=Any):
    """What a stored run may be given again; what is None or absent is as the run began."""

    model: str | BaseChatModel | None
    """The policy: needed where the run was given an object instead of a name."""
    reward_model: str | RewardModel | RewardFunction | None
    """Needed, as the policy, in place of an object."""
    prompts: str | PromptSet | None
    """Needed, as the policy, in place of an object."""


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


KEYS = Inputs.__required_keys__ | Inputs.__optional_keys__
"""The inputs of a run, by name."""
_DEFAULTS = {each.name: each.default for each in fields(Setup)}


def spelled_out(function: F, others: Mapping[str, Any] | None = None) -> F:
    """Let `help` and `inspect.signature` show the arguments behind `**inputs` one by one.

    Args:
        function: the one that takes them.
        others: defaults of those that are no field of `Setup`.
    """
    signature = inspect.signature(function)
    *own, rest = signature.parameters.values()
    (declared,) = get_args(rest.annotation)  # Unpack[...]
    defaults = {"audit_fallback": False} if declared is InputsAgain else _DEFAULTS
    defaults = {**defaults, **(others or {})}
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
    shown.sort(key=lambda each: each.name not in declared.__required_keys__)
    settings = inspect.Parameter("settings", inspect.Parameter.VAR_KEYWORD, annotation=Any)
    function.__signature__ = signature.replace(parameters=[*own, *shown, settings])  # pyright: ignore[reportFunctionMemberAccess]
    return function


def make_context(settings: Mapping[str, Any]) -> TPOContext:
    """A `TPOContext` of these fields.

    Raises:
        ConfigurationError: an unknown field, or a value out of bounds; shows it.
    """
    context = TPOContext.checked(dict(settings))
    if context.interrupt_at:
        raise ConfigurationError(
            f"interrupt_at={context.interrupt_at!r}: this runs to the end and cannot wait for a "
            "person. Use create_tpo_graph(..., interrupt_at=...)."
        )
    return context

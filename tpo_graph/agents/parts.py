"""What a `ChatTPO` is made of: its fields, the graph that is made of them, and copies of both."""

from collections.abc import Mapping
from copy import deepcopy
from operator import is_not
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from langchain_core.language_models import BaseChatModel
from pydantic import (
    ConfigDict,
    Field,
    PrivateAttr,
    SkipValidation,
    ValidationError,
    model_validator,
)

from tpo_graph.agents.inputs import ChatInputs
from tpo_graph.context import RunOptions, TPOContext
from tpo_graph.errors import ConfigurationError, TPOError, invalid_settings, refuse_unknown
from tpo_graph.graph import TPOGraph
from tpo_graph.models.load import load_chat_model
from tpo_graph.session.setup import Choices, Setup, make_context
from tpo_graph.strategies import split_objects

_CONNECTION = ("timeout", "max_retries", "api_key", "streaming")
"""What LangChain gives any chat model when it makes one; here it is `model`'s own affair."""


class ChatParts(BaseChatModel):
    """The fields of `ChatTPO`, by which it is copied, and its graph."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: SkipValidation[Any]
    """The policy: "provider:model", "local:PATH_OR_HUB_ID" or a chat model."""
    reward_model: SkipValidation[Any]
    """ "local:PATH_OR_HUB_ID", a `RewardModel`, or f(query, response) -> float."""
    critic: SkipValidation[Any] = None
    """Writes loss and gradient; the policy itself when None."""
    depth: int = 2
    """D, iterations. 0 is the best of N."""
    width: int = 5
    """N, responses per iteration."""
    temperature: float | None = 0.7
    max_tokens: int | None = 2048
    stop: list[str] | None = None
    """The answer ends before the first of these, which its reward does not know of."""
    prompts: SkipValidation[Any] = "tpo"
    """ "tpo", "revision", a folder, or a loaded set."""
    settings: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Other settings of a run; `ChatTPO(criteria="Be brief.")` puts them here. A further stop rule
    (`stop` of a run) stands here only."""
    tpo_cache: SkipValidation[Any] = None
    """A `Cache`: where candidates, steps and usage go; in memory when None."""
    _graph: TPOGraph = PrivateAttr()
    _made_of: list[Any] = PrivateAttr()
    """What `_graph` was made of: a copy, or an assignment, may change that."""

    if TYPE_CHECKING:

        def __init__(self, **values: Unpack[ChatInputs]) -> None: ...

    else:  # whose settings may stand among the fields

        def __init__(self, **values):
            own = _settings_of(type(self))
            if callable(getattr(values.get("cache"), "record", None)):
                raise ConfigurationError(
                    f"cache={values['cache']!r:.200} is where runs are kept: give it as tpo_cache. "
                    "The cache of a chat model is LangChain's, for whole answers."
                )
            if settings := {name: values.pop(name) for name in own & values.keys()}:
                values["settings"] = {**values.get("settings", {}), **settings}
            try:
                super().__init__(**values)
            except ValidationError as e:
                first = e.errors(include_url=False)[0]
                cause = first.get("ctx", {}).get("error")
                if isinstance(cause, TPOError):
                    raise cause from None
                raise invalid_settings(e, type(self), own) from None

    @model_validator(mode="before")
    @classmethod
    def _own_values(cls, values: dict[str, Any]) -> dict[str, Any]:
        return _without_connection(values)

    @model_validator(mode="after")
    def _built(self) -> Self:
        self._build()
        return self

    def _build(self) -> None:
        context = self._context({})
        self.model = load_chat_model(self.model)
        self._graph = self._made(self.reward_model, context.model_dump())
        self._made_of = self._live()

    def _live(self) -> list[Any]:
        """What stands for something at work (a model, a server, a database): copies share it."""
        own = (self.model, self.reward_model, self.critic, self.prompts, self.tpo_cache)
        return [*own, *split_objects(self.settings)[1]]

    def _own_graph(self) -> TPOGraph:
        """The graph of what the fields are now."""
        live = self._live()
        if len(live) != len(self._made_of) or any(map(is_not, live, self._made_of)):
            self._build()
        return self._graph

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values; settings of a run may stand among the fields, as when made.

        Raises:
            ConfigurationError: a setting or a name is wrong.
        """
        given = deepcopy(self) if deep else self
        changes, own = _without_connection(update or {}), _settings_of(type(self))
        refuse_unknown(changes, {*type(self).model_fields, *own})
        if settings := {name: changes.pop(name) for name in own & changes.keys()}:
            changes["settings"] = {**changes.get("settings", given.settings), **settings}
        copied = super(ChatParts, given).model_copy(update=changes)
        copied._context({})
        copied._own_graph()
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """A copy that shares what is at work: models, reward model, prompts, caches, callbacks."""
        callbacks: Any = self.callbacks
        handlers = cast("list[Any]", callbacks if isinstance(callbacks, list) else [callbacks])
        shared: list[Any] = [self._graph, *handlers, self.cache, self.rate_limiter]
        memo = {} if memo is None else memo
        memo.update((id(one), one) for one in [*self._live(), *self._made_of, *shared])
        return super().__deepcopy__(memo)

    def _made(self, reward_model: Any, defaults: dict[str, Any] | None = None) -> TPOGraph:
        setup = Setup(
            model=self.model,
            reward_model=reward_model,
            critic=self.critic,
            prompts=self.prompts,
            choices=Choices(strategies=split_objects(self.settings)[1]),
        )
        return setup.graph(
            cache=self.tpo_cache, checkpointer=False, defaults=defaults, name=type(self).__name__
        )

    def _context(self, options: dict[str, Any]) -> TPOContext:
        own = ("depth", "width", "temperature", "max_tokens")
        fields = {name: getattr(self, name) for name in own}
        return make_context(split_objects({**fields, **self.settings, **options})[0])


def _settings_of(kind: type[ChatParts]) -> set[str]:
    """Settings of a run that are no field of a chat model."""
    return RunOptions.model_fields.keys() - kind.model_fields.keys()


def _without_connection(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _CONNECTION}

"""`TPOContext`: every value a caller may set for one run, with bounds and descriptions.

It is the graph's `context_schema`: LangGraph hands it to each node, LangGraph Studio shows it as a
form. Values only: live handles (models, cache, prompts) go to `create_tpo_graph`, and secrets go
nowhere near it, because servers copy the context into metadata.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
)
from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from tpo_graph.errors import ConfigurationError, invalid_settings

_SAMPLING = ["sample", "update"]
_CRITIC = ["loss", "gradient"]


def _nodes(*names: str, **extra: Any) -> dict[str, Any]:
    """Field metadata by which LangGraph Studio shows the field beside the nodes that read it."""
    return {"langgraph_nodes": list(names), **extra}


def _several(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


InterruptAt = Annotated[tuple[Literal["select", "gradient"], ...], BeforeValidator(_several)]
"""Where a run waits for a person (`tpo_graph.nodes.review`)."""


class Sampling(TypedDict):
    """Sampling parameters of one request; None leaves the parameter out of the request."""

    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    seed: int | None


class Limits(TypedDict, total=False):
    """Settings that a run which is resumed may get other values of: what servers refuse, what
    decides the draws, and what a run may use."""

    temperature: float | None
    top_p: float | None
    max_tokens: int | None
    critic_temperature: float | None
    critic_top_p: float | None
    critic_max_tokens: int | None
    seed: int | None
    max_total_tokens: int | None
    max_seconds: float | None
    max_cost: float | None
    input_price: float
    cached_price: float | None
    output_price: float


class CommonSettings(Limits, total=False):
    """Fields of `RunOptions`, for type checkers and editors: all but width, depth and strategies,
    which not every function takes in one form."""

    criteria: str | None
    target_reward: float | None
    patience: int | None
    min_gain: float
    stop_on_same_pair: bool


class NamedSettings(CommonSettings, total=False):
    """All fields of `RunOptions`, strategies by their names."""

    width: int
    depth: int
    select: str
    pick: str
    stop: str | None


class RunOptions(BaseModel):
    """How one run samples and when it stops (paper, section 4: D is `depth`, N is `width`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(
        default=5,
        ge=1,
        le=1024,
        description="N: responses sampled at the start and written by each update.",
        json_schema_extra=_nodes(*_SAMPLING),
    )
    depth: int = Field(
        default=2,
        ge=0,
        le=1000,
        description="D: number of iterations of loss, gradient and update. 0 is best-of-N.",
        json_schema_extra=_nodes("select"),
    )
    criteria: str | None = Field(
        default=None,
        max_length=20_000,
        description="What the user cares about, in their own words; critic and update read it.",
        json_schema_extra=_nodes(*_CRITIC, "update", langgraph_type="prompt"),
    )
    temperature: float | None = Field(
        default=0.7,
        ge=0,
        le=2,
        description="Sampling temperature of responses. Unset it for models that refuse it.",
        json_schema_extra=_nodes(*_SAMPLING),
    )
    top_p: float | None = Field(
        default=0.95,
        gt=0,
        le=1,
        description="Nucleus sampling of responses. Unset it for models that refuse it.",
        json_schema_extra=_nodes(*_SAMPLING),
    )
    max_tokens: int | None = Field(
        default=2048,
        ge=1,
        description="Maximum tokens per response. Unset it for the model's own limit.",
        json_schema_extra=_nodes(*_SAMPLING),
    )
    critic_temperature: float | None = Field(
        default=0.7,
        ge=0,
        le=2,
        description="Sampling temperature of the textual loss and gradient.",
        json_schema_extra=_nodes(*_CRITIC),
    )
    critic_top_p: float | None = Field(
        default=0.99,
        gt=0,
        le=1,
        description="Nucleus sampling of the textual loss and gradient.",
        json_schema_extra=_nodes(*_CRITIC),
    )
    critic_max_tokens: int | None = Field(
        default=8192,
        ge=1,
        description="Maximum tokens per textual loss or gradient.",
        json_schema_extra=_nodes(*_CRITIC),
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**31,
        description="Random seed; makes a run repeatable where the model supports seeds.",
        json_schema_extra=_nodes(*_SAMPLING, *_CRITIC),
    )
    select: str = Field(
        default="pair",
        min_length=1,
        max_length=200,
        description="Responses shown to critic and update: pair, newest, top-k:3, random-subset:3.",
        json_schema_extra=_nodes("select"),
    )
    pick: str = Field(
        default="argmax",
        min_length=1,
        max_length=200,
        description="How the answer is chosen: argmax, knockout:4, tempered:0.5.",
        json_schema_extra=_nodes("select"),
    )
    stop: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        description="An additional stop rule, such as expected-gain:0.1.",
        json_schema_extra=_nodes("select"),
    )
    target_reward: float | None = Field(
        default=None,
        allow_inf_nan=False,
        description="Stop as soon as the best reward reaches this value.",
        json_schema_extra=_nodes("select"),
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Stop after this many iterations without a gain of at least min_gain.",
        json_schema_extra=_nodes("select"),
    )
    min_gain: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Smallest increase of the best reward that `patience` counts as a gain.",
        json_schema_extra=_nodes("select"),
    )
    stop_on_same_pair: bool = Field(
        default=False,
        description="Stop when an update changes neither the best nor the worst response, or when "
        "these two are equal.",
        json_schema_extra=_nodes("select"),
    )
    max_total_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Stop before an iteration that would probably exceed this number of tokens.",
        json_schema_extra=_nodes("select"),
    )
    max_seconds: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Stop before an iteration that would probably exceed this much model time.",
        json_schema_extra=_nodes("select"),
    )
    input_price: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Price of a million prompt tokens, for `max_cost`.",
        json_schema_extra=_nodes("select"),
    )
    cached_price: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Price of a million cached prompt tokens; input_price if unset.",
        json_schema_extra=_nodes("select"),
    )
    output_price: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="Price of a million generated tokens, for `max_cost`.",
        json_schema_extra=_nodes("select"),
    )
    max_cost: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Stop before an iteration that would probably raise the total cost above this; "
        "if no prices are given, list prices in US dollars are used.",
        json_schema_extra=_nodes("select"),
    )

    def response_sampling(self, iteration: int) -> Sampling:
        """Sampling parameters for the responses of one iteration (0: the first samples)."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            seed=self._seed(3 * iteration),
        )

    def critic_sampling(self, iteration: int, stage: str) -> Sampling:
        """Sampling parameters for the `loss` or `gradient` call that follows `iteration`."""
        return Sampling(
            temperature=self.critic_temperature,
            top_p=self.critic_top_p,
            max_tokens=self.critic_max_tokens,
            seed=self._seed(3 * iteration + (1 if stage == "loss" else 2)),
        )

    def _seed(self, call: int) -> int | None:
        # A seed per call, from the iteration alone: a resumed or extended run draws what an
        # uninterrupted one would have drawn.
        return None if self.seed is None else (self.seed * 1_000_003 + call) % 2**31


class TPOContext(RunOptions):
    """Everything a caller may set for one run: its options, and which of the graph's models.

    On a server the caller is whoever sends a request. So a context names models only by the names
    that the graph's author gave to `create_tpo_graph`; addresses, paths and specs are refused.

    Raises:
        ConfigurationError: a setting that does not exist, or a value out of bounds.
    """

    if not TYPE_CHECKING:  # editors show the fields

        def __init__(self, **settings: Any) -> None:
            # LangGraph makes contexts from dictionaries by itself, and shows what this raises.
            try:
                super().__init__(**settings)
            except ValidationError as e:
                raise invalid_settings(e, type(self)) from e

    policy: str | None = Field(
        default=None,
        description="Name of one of the graph's `policies`; it writes answers and updates.",
        json_schema_extra=_nodes(*_SAMPLING),
    )
    critic: str | None = Field(
        default=None,
        description="Name of one of the graph's `critics`; it writes loss and gradient.",
        json_schema_extra=_nodes(*_CRITIC),
    )
    reward_model: str | None = Field(
        default=None,
        description="Name of one of the graph's `reward_models`.",
        json_schema_extra=_nodes("reward_score"),
    )

    interrupt_at: InterruptAt = Field(
        default=(),
        description="Wait for a person to choose the pair (select) or to edit the gradient.",
        json_schema_extra=_nodes("select", "update"),
    )
    on_failure: Literal["answer", "raise"] = Field(
        default="answer",
        description="If a step fails permanently after there is an answer: end with it, or raise.",
        json_schema_extra=_nodes("loss", "gradient", "update", "reward_score"),
    )

    @classmethod
    def of(cls, context: Any) -> Self:
        """The context of a run: LangGraph passes None when the caller gave none.

        In a graph that is a node of another one it is that graph's context, of which only `tpo`
        is meant for this one (or all, if it holds nothing but fields of this class).
        """
        if context is None:
            return cls()
        if isinstance(context, cls):
            return context
        if isinstance(context, TPOContext):
            return cls.model_validate(context.model_dump(exclude_unset=True))
        if isinstance(context, str | int | float | list):
            raise ConfigurationError(
                f'context={context!r:.200} has no settings: give a mapping, such as {{"depth": 2}}'
            )
        part = part_for_tpo(context)
        if part is None and isinstance(context, Mapping):
            fields = cast("Mapping[str, Any]", context)
            part = fields if fields.keys() <= cls.model_fields.keys() else None
        return cls.checked(part or {})

    @classmethod
    def checked(cls, settings: Mapping[str, Any]) -> Self:
        """A context of these fields.

        Raises:
            ConfigurationError: an unknown field, or a value out of bounds; shows it.
        """
        return cls(**{str(name): value for name, value in settings.items()})

    @classmethod
    def with_defaults(cls, defaults: Mapping[str, Any]) -> type[Self]:
        """The same fields with other defaults: what a graph's own configuration looks like."""
        values = cls.checked(defaults)
        fields: dict[str, Any] = {}
        for name in values.model_fields_set:
            known = cls.model_fields[name]
            field = Field(
                default=getattr(values, name),
                description=known.description,
                json_schema_extra=known.json_schema_extra,
            )
            kind = (
                Annotated[known.annotation, *known.metadata] if known.metadata else known.annotation
            )
            fields[name] = (kind, field)
        return create_model(cls.__name__, __base__=cls, __doc__=cls.__doc__, **fields)


LIMITS = tuple(Limits.__annotations__)
BUDGETS = ("max_total_tokens", "max_seconds", "max_cost")
"""Those of them that end a run; the stop reasons of the same names."""


def part_for_tpo(given: Any) -> Mapping[str, Any] | None:
    """What another graph's context or state holds for this one: its key or attribute `tpo`.

    Raises:
        ConfigurationError: it is no mapping of settings.
    """
    if isinstance(given, Mapping):
        part = cast("Mapping[str, Any]", given).get("tpo")
    else:
        part = getattr(given, "tpo", None)
    if isinstance(part, BaseModel):
        return part.model_dump(exclude_unset=True)
    if part is None or isinstance(part, Mapping):
        return cast("Mapping[str, Any] | None", part)
    raise ConfigurationError(
        f'"tpo" is {part!r}: give a mapping of settings, such as {{"depth": 2}}'
    )

"""What `ChatTPO` is made of, for type checkers and editors: pydantic takes it field by field."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Required

from langchain_core.caches import BaseCache
from langchain_core.callbacks import Callbacks
from langchain_core.language_models import BaseChatModel, ModelProfile
from langchain_core.rate_limiters import BaseRateLimiter

from tpo_graph.cache import Cache
from tpo_graph.context import CommonSettings
from tpo_graph.prompts import PromptSet
from tpo_graph.rewards import RewardFunction, RewardModel
from tpo_graph.strategies import Pick, Select


class ChatInputs(CommonSettings, total=False):
    """The arguments of `ChatTPO`: its fields, settings of a run, and LangChain's own."""

    model: Required[str | BaseChatModel]
    reward_model: Required[str | RewardModel | RewardFunction]
    critic: str | BaseChatModel | None
    depth: int
    width: int
    select: str | Select
    pick: str | Pick
    stop: list[str] | None
    prompts: str | PromptSet
    settings: Mapping[str, Any]
    tpo_cache: Cache | None

    name: str | None
    cache: BaseCache | bool | None
    verbose: bool
    callbacks: Callbacks
    tags: list[str] | None
    metadata: dict[str, Any] | None
    custom_get_token_ids: Callable[[str], list[int]] | None
    rate_limiter: BaseRateLimiter | None
    disable_streaming: bool | Literal["tool_calling"]
    output_version: str | None
    profile: ModelProfile | None

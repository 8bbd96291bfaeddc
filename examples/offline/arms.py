"""The arms of the study, all through tpo_graph's own graph: TPO, revision, best-of-15, and swapped.

Each returns, per query, the candidates of every iteration with their rewards.
"""

import asyncio
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batched import ChatBatched
from langgraph.checkpoint.memory import InMemorySaver
from world import Query

from tpo_graph import Candidate, create_tpo_graph
from tpo_graph.cache import MemoryCache
from tpo_graph.rewards import RewardModel, load_reward_model

HERE = Path(__file__).parent
DEPTH, WIDTH = 2, 5

Runs = list[list[Candidate]]


def sampling() -> dict[str, Any]:
    """How the demo samples, as fields of `TPOContext`: temperatures, top-p and limits on tokens."""
    config = tomllib.loads((HERE / "tpo.toml").read_text(encoding="utf-8"))
    return {k: v for k, v in config.items() if k.endswith(("temperature", "top_p", "max_tokens"))}


@dataclass(frozen=True)
class Setting:
    """What all arms share: models, sampling, seed."""

    models: Path
    reward_model: str | RewardModel
    """Name of a folder in `models`, or any other."""
    sampling: dict[str, Any]
    """Fields of `TPOContext`, without depth, width and seed."""
    seed: int


class Arm:
    """Many runs of one graph, side by side.

    Args:
        prompts: folder of the prompt set.
        depth, width, seed: as in `TPOContext`.
    """

    def __init__(
        self,
        setting: Setting,
        prompts: str = "prompts",
        depth: int = DEPTH,
        width: int = WIDTH,
        seed: int | None = None,
    ) -> None:
        self.cache = MemoryCache(max_runs=100_000)
        reward_model = setting.reward_model
        if isinstance(reward_model, str):
            reward_model = load_reward_model(f"local:{setting.models / reward_model}")
        self.graph = create_tpo_graph(
            ChatBatched(path=str(setting.models / "policy")),
            reward_model,
            prompts=str(HERE / prompts),
            cache=self.cache,
            checkpointer=InMemorySaver(),
        )
        self.context: Any = {
            **setting.sampling,
            "depth": depth,
            "width": width,
            "seed": setting.seed if seed is None else seed,
        }

    def config(self, number: int) -> Any:
        """The thread of one query."""
        return {
            "configurable": {"thread_id": str(number), "tpo_run_id": str(number)},
            "recursion_limit": 100,
        }

    async def step(
        self, queries: list[Query] | None, count: int, **options: Any
    ) -> list[dict[str, Any]]:
        """Start (with queries) or resume (without) every run, until it stops or is interrupted.

        Returns:
            The states of the graph.
        """
        starts: list[Any] = [None] * count
        if queries is not None:
            starts = [{"messages": [("user", query.text)]} for query in queries]
        return await asyncio.gather(
            *(
                self.graph.ainvoke(start, self.config(i), context=self.context, **options)
                for i, start in enumerate(starts)
            )
        )

    async def candidates(self, count: int) -> Runs:
        """All candidates of every run."""
        return [await self.cache.candidates(str(i)) for i in range(count)]


async def plain(setting: Setting, queries: list[Query], **options: Any) -> Runs:
    """Every query to its end; the options are those of `Arm`."""
    arm = Arm(setting, **options)
    await arm.step(queries, len(queries))
    return await arm.candidates(len(queries))


async def best_of_15(setting: Setting, queries: list[Query]) -> Runs:
    """The same first five samples, and ten more of the policy: as many samples as TPO draws."""
    first = await plain(setting, queries, depth=0)
    more = await plain(setting, queries, depth=0, width=DEPTH * WIDTH, seed=setting.seed + 1)
    return [[*a, *b] for a, b in zip(first, more, strict=True)]


async def swapped(setting: Setting, queries: list[Query]) -> Runs:
    """TPO, but before each update every run gets the gradient of another query of the same step."""
    arm, count = Arm(setting), len(queries)
    await arm.step(queries, count, interrupt_before=["update"])
    for step in range(DEPTH):
        states = [await arm.graph.aget_state(arm.config(i)) for i in range(count)]
        waiting = [i for i in range(count) if states[i].next == ("update",)]
        gradients = [states[i].values["gradient"] for i in waiting]
        for place, i in enumerate(waiting):
            other = gradients[(place + 1) % len(waiting)]
            await arm.graph.aupdate_state(arm.config(i), {"gradient": other}, as_node="gradient")
        last = step == DEPTH - 1
        await arm.step(None, count, interrupt_before=[] if last else ["update"])
    return await arm.candidates(count)

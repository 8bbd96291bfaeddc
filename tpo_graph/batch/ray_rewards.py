"""The reward model as a pool of Ray actors, and the `RewardModel` by which workers ask it.

A call goes to the actor that this process has asked least at the moment. One that dies is started
again by Ray, on any node with room; its calls go to the others meanwhile. Scoring changes nothing,
so a call may be made twice.
"""

import asyncio
import os
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tpo_graph.conversation import Turn
from tpo_graph.errors import RewardError, TPOError
from tpo_graph.rewards import RewardModel, checked_scores, load_reward_model
from tpo_graph.usage import Usage, spend, spending

_DEATHS = 4
"""Actors that may die of one call before it is the call's fault."""
_PATIENCE_SECONDS = 600.0
"""How long a call waits for an actor to come back: nodes are started in that time."""


class RewardActor:
    """What runs in each actor of the pool.

    Args:
        spec: the reward model's name, as `load_reward_model` takes it.
        environment: variables to set before it is loaded.
        folder: where relative paths begin, on nodes that have it.
    """

    def __init__(self, spec: str, environment: Mapping[str, str], folder: str) -> None:
        settle(environment, folder)
        self._spec = spec
        self._model: RewardModel | None = None

    async def name(self) -> str | TPOError:
        """The name of the reward model, once it is loaded."""
        try:
            return (await self._loaded()).name
        except TPOError as error:
            return error

    async def score(
        self, conversation: list[Turn], responses: list[str]
    ) -> tuple[list[float], Usage] | TPOError:
        """The scores and what they took; an error as a value, which Ray would wrap in its own."""
        try:
            model = await self._loaded()
            with spending() as usage:
                return list(await checked_scores(model, conversation, responses)), usage
        except TPOError as error:
            return error

    async def _loaded(self) -> RewardModel:
        if self._model is None:  # loaded once: the function keeps what it loads
            self._model = await asyncio.to_thread(load_reward_model, self._spec)
        return self._model


def settle(environment: Mapping[str, str], folder: str) -> None:
    """Make names mean in this actor's process what they mean where the batch was started."""
    os.environ.update(environment)
    with suppress(FileNotFoundError):
        os.chdir(folder)


class RewardPool:
    """A `RewardModel` that asks a pool of `RewardActor`s.

    Args:
        name: the reward model's own: scores are stored by it, wherever they were made.
        actors: handles of the pool's actors, at least one.
    """

    def __init__(self, name: str, actors: Sequence[Any]) -> None:
        self.name = name
        # Each process has another order: they do not all begin with the same actor.
        self._actors = random.sample(list(actors), len(actors))
        self._asked = [0] * len(actors)

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`.

        Raises:
            RewardError: the model failed, several actors died of this call, or none came back.
        """
        from ray.exceptions import ActorDiedError, RayActorError

        loop = asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE_SECONDS
        deaths, pause = 0, 0.1
        silent: set[int] = set()
        while True:
            place = self._least_asked(silent)
            try:
                answer = await self._ask(place, list(conversation), list(responses))
                break
            except RayActorError as error:
                deaths += isinstance(error, ActorDiedError)
                if deaths > _DEATHS or loop.time() > deadline:
                    raise RewardError(
                        f"the actors of the reward model {self.name!r} died or stayed away "
                        f"({deaths} of this call): {str(error).strip()[:300]} See Ray's logs of "
                        "the node; give them more memory, or make the batches smaller."
                    ) from error
            silent.add(place)
            if len(silent) == len(self._actors):
                silent.clear()
                await asyncio.sleep(pause)
                pause = min(2 * pause, 2.0)
        if isinstance(answer, TPOError):
            raise answer
        scores, usage = answer
        spend(usage)
        return scores

    def _least_asked(self, silent: set[int]) -> int:
        places = [place for place in range(len(self._actors)) if place not in silent]
        return min(places, key=self._asked.__getitem__)

    async def _ask(
        self, place: int, conversation: list[Turn], responses: list[str]
    ) -> tuple[list[float], Usage] | TPOError:
        self._asked[place] += 1
        try:
            return await self._actors[place].score.remote(conversation, responses)
        finally:
            self._asked[place] -= 1

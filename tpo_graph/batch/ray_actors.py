"""What runs on a Ray cluster: workers, each the local engine for the jobs it is given, and the
reward model that all of them ask. A `Pool` is how either kind is asked.
"""

import asyncio
import importlib
import math
import os
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any, TypeVar, cast

from langgraph.runtime import RunControl

from tpo_graph.batch.engine import Done, Job, run_job
from tpo_graph.concurrency.in_flight import Flight, is_overload
from tpo_graph.concurrency.outages import ServerWait
from tpo_graph.conversation import Turn
from tpo_graph.errors import RewardError, TPOError
from tpo_graph.rewards import RewardModel, checked_scores, load_reward_model
from tpo_graph.session.session import Session, open_session
from tpo_graph.session.setup import Setup
from tpo_graph.store.leases import STALE_SECONDS
from tpo_graph.usage import Usage, spend, spending

T = TypeVar("T")

DEATHS = 4
"""Actors that may die of one call before it is given up: it may be what kills them."""
_ABSENCE_SECONDS = 2.0
"""How long others are preferred to an actor that was gone."""
_PATIENCE_SECONDS = 600.0
"""How long a call waits for a reward actor to come back: nodes are started in that time."""
_LEASE_SECONDS = 10 * STALE_SECONDS
"""How long a job waits for the lease of a worker that seems to be dead. It is free as soon as the
worker's process is seen to be gone, on other machines after `STALE_SECONDS` of silence."""


async def answered(reference: Awaitable[Any]) -> Any:
    """What an actor's method returns; raises its own error, without Ray's around it."""
    from ray.exceptions import RayTaskError

    try:
        return await reference
    except RayTaskError as error:
        raise (error.cause if isinstance(error.cause, TPOError) else error) from None


class Pool:
    """Actors of one kind. A call goes to the one that this process has asked least at the moment,
    and to another when that one dies; Ray starts it again on any node with room.

    Args:
        actors: their handles, at least one. One that has not started yet is left out until it has.
        each: calls that one of them may have in hand.
    """

    def __init__(self, actors: Sequence[Any], each: float = math.inf) -> None:
        self._actors = actors
        self._each = each
        self._asked = [0] * len(actors)
        self._gone = [-_ABSENCE_SECONDS] * len(actors)
        """When each was last seen to be away, on the event loop's clock."""
        self._starting: list[asyncio.Task[None]] = []
        self._started: set[int] = set()
        self._changed = asyncio.Event()

    async def ask(
        self, call: Callable[[Any], Awaitable[T]], gives_up: Callable[[float], bool]
    ) -> T:
        """What `call(actor)` returns, made again with another while actors die or are away.

        Args:
            gives_up: whether to wait no longer, after so many seconds.

        Raises:
            RayActorError: `DEATHS` actors died of this call, or none is to be waited for.
        """
        from ray.exceptions import ActorDiedError, RayActorError

        loop = asyncio.get_running_loop()
        began, deaths, pause = loop.time(), 0, 0.1
        while True:
            number = await self._least_asked()
            self._asked[number] += 1
            try:
                return await call(self._actors[number])
            except RayActorError as error:
                self._gone[number] = loop.time()
                deaths += isinstance(error, ActorDiedError)
                if deaths == DEATHS or gives_up(loop.time() - began):
                    raise
            finally:
                self._asked[number] -= 1
                self._changed.set()
            await asyncio.sleep(pause)
            pause = min(2 * pause, 2.0)

    def close(self) -> None:
        """Wait no more for actors that have not started."""
        for task in self._starting:
            task.cancel()

    async def _least_asked(self) -> int:
        asked, gone, numbers = self._asked, self._gone, range(len(self._actors))
        self._starting = self._starting or [asyncio.create_task(self._start(n)) for n in numbers]
        while not (free := [n for n in self._started if asked[n] < self._each]):
            self._changed.clear()
            await self._changed.wait()
        long_ago = asyncio.get_running_loop().time() - _ABSENCE_SECONDS
        return min(free, key=lambda n: (gone[n] > long_ago, asked[n], random.random()))

    async def _start(self, number: int) -> None:
        from ray.exceptions import RayError, RayTaskError

        while number not in self._started:
            try:
                await self._actors[number].ready.remote()
            except RayTaskError:
                pass  # it is there; its calls say what is wrong
            except RayError:
                await asyncio.sleep(_ABSENCE_SECONDS)
                continue
            self._started.add(number)
            self._changed.set()


def settle(environment: Mapping[str, str], folder: str) -> None:
    """Make names mean in this actor's process what they mean where the batch was started."""
    os.environ.update(environment)
    with suppress(FileNotFoundError):
        os.chdir(folder)


class RewardActor:
    """An actor that holds the reward model; `spec` is as `load_reward_model` takes it."""

    called = "reward model"

    def __init__(self, environment: Mapping[str, str], folder: str, spec: str) -> None:
        settle(environment, folder)
        self._spec = spec
        self._model: RewardModel | None = None

    async def ready(self) -> str:
        """The name of the reward model, once it is loaded."""
        if self._model is None:
            self._model = await asyncio.to_thread(load_reward_model, self._spec)
        return self._model.name

    async def score(
        self, conversation: list[Turn], responses: list[str]
    ) -> tuple[list[float], Usage]:
        """The scores, and what they took."""
        await self.ready()  # a later life of the actor has not loaded it yet
        assert self._model is not None
        with spending() as usage:
            return list(await checked_scores(self._model, conversation, responses)), usage


class RewardPool:
    """A `RewardModel` that asks `RewardActor`s; scoring changes nothing: it may be done twice.

    Args:
        name: the reward model's own: scores are stored by it, wherever they were made.
        actors: handles of the pool's actors.
    """

    def __init__(self, name: str, actors: Sequence[Any]) -> None:
        self.name = name
        self._pool = Pool(actors)

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`.

        Raises:
            RewardError: the model failed, several actors died of this call, or none came back.
        """
        from ray.exceptions import RayActorError

        def asked(actor: Any) -> Awaitable[Any]:
            return answered(actor.score.remote(list(conversation), list(responses)))

        try:
            scores, usage = await self._pool.ask(asked, lambda waited: waited > _PATIENCE_SECONDS)
        except RayActorError as error:
            raise RewardError(
                f"the actors of the reward model {self.name!r} died or stayed away: "
                f"{str(error).strip()[:300]} See Ray's logs of the node; give them more memory, or "
                "make the batches smaller."
            ) from error
        spend(usage)
        return scores


class PolicyWorker:
    """An actor that runs jobs: opens the database itself, loads policy and critic by name.

    Args:
        setup: names only; that of the reward model is what runs are stored with.
        rewards: the reward model's own name, and those of its actors.
        wait_for_server: seconds that a model server may be away.
    """

    called = "policy worker"

    def __init__(
        self,
        environment: Mapping[str, str],
        folder: str,
        setup: Setup,
        rewards: tuple[str, Sequence[str]],
        wait_for_server: float,
    ) -> None:
        settle(environment, folder)
        self._setup, self._rewards = setup, rewards
        self._control = RunControl()
        self._wait = ServerWait(
            wait_for_server, stopping=lambda: self._control.drain_requested, on_change=self._changed
        )
        self._opening = asyncio.Lock()
        self._session: Session | None = None
        self._stack = AsyncExitStack()
        self._runs: dict[asyncio.Task[Done], _Told] = {}

    async def ready(self) -> None:
        """Return when models and database are open."""
        async with self._opening:
            if self._session is None:
                name, called = self._rewards
                rewards = RewardPool(name, await asyncio.to_thread(_actors, called))
                session = await self._stack.enter_async_context(
                    open_session(replace(self._setup, reward_model=rewards))
                )
                # Runs are stored with the model itself, not with the pool: they outlive it.
                named = {"reward_model": self._setup.named()["reward_model"]}
                self._session = replace(session, specs={**session.specs, **named})

    async def run(self, job: Job) -> AsyncGenerator[tuple[Any, ...] | Done]:
        """Run or resume a job: what it does meanwhile, as methods of `Flight` and their arguments,
        and at last how it ended."""
        await self.ready()
        told = _Told()
        run = asyncio.create_task(self._run(job, told))
        self._runs[run] = told
        run.add_done_callback(lambda _: told.queue.put_nowait(None))
        while (call := await told.queue.get()) is not None:
            yield call
        del self._runs[run]
        yield Done(job.position) if run.cancelled() else run.result()

    async def _run(self, job: Job, told: "_Told") -> Done:
        assert self._session is not None
        loop, control = asyncio.get_running_loop(), self._control
        patience, flight = loop.time() + _LEASE_SECONDS, cast(Flight, told)
        while True:
            end = await run_job(self._session, self._wait, control, job, flight)
            if end != Done(job.position) or control.drain_requested or loop.time() > patience:
                return end
            # A worker that was taken for dead has the lease still, or did until a moment ago.
            await asyncio.sleep(1.0)

    async def drain(self, reason: str) -> None:
        """Stop all runs before their next steps."""
        self._control.request_drain(reason)

    async def close(self) -> None:
        """Stop all runs where they are, let go of their leases, and close the database."""
        for run in (left := [*self._runs]):
            run.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._stack.aclose()

    def _changed(self, error: Exception | None) -> None:
        if self._runs and is_overload(error):
            next(iter(self._runs.values())).overloaded()


class _Told:
    """A flight whose account is kept elsewhere: what it is told waits to be sent there."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[tuple[Any, ...] | None] = asyncio.Queue()

    def __getattr__(self, method: str) -> Callable[..., None]:
        return lambda *told: self.queue.put_nowait((method, *told))


def _actors(names: Sequence[str]) -> list[Any]:
    ray: Any = importlib.import_module("ray")
    return [ray.get_actor(name) for name in names]

"""A policy worker: a Ray actor that runs jobs as `LocalEngine` does, in the same database.

It opens the database itself and loads policy and critic by name; rewards come from the pool. It
says when it has room (`reserve`), and is given one job for each time.
"""

import asyncio
import importlib
import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from langgraph.runtime import RunControl

from tpo_graph.batch.engine import Done, Job, awaited, done, run_job
from tpo_graph.batch.ray_rewards import RewardPool, settle
from tpo_graph.concurrency.in_flight import Flight, InFlight, is_overload
from tpo_graph.concurrency.outages import ServerWait
from tpo_graph.errors import RunBusyError, TPOError
from tpo_graph.session.result import TPOResult
from tpo_graph.session.session import Session, open_session
from tpo_graph.session.setup import Setup
from tpo_graph.store.leases import STALE_SECONDS

_LEASE_SECONDS = 10 * STALE_SECONDS
"""How long a job waits for the lease of a worker that seems to be dead. It is free as soon as the
worker's process is seen to be gone, on other machines after `STALE_SECONDS` of silence."""


@dataclass(frozen=True)
class Orders:
    """What all workers of an engine are told; values only, so that one can be started again."""

    setup: Setup
    """Names only; that of the reward model is what runs are stored with."""
    reward_name: str
    """`RewardModel.name`, with which its scores are."""
    reward_actors: Sequence[str]
    """What the pool's actors are called."""
    width: int
    max_in_flight: int | None
    """Of one worker."""
    wait_for_server: float
    folder: str
    """Where relative names begin."""
    environment: Mapping[str, str] = field(repr=False)


class PolicyWorker:
    """What runs in each worker's actor; its methods run on one event loop."""

    def __init__(self, orders: Orders) -> None:
        settle(orders.environment, orders.folder)
        self._orders = orders
        self._opening = asyncio.Lock()
        self._open: tuple[Session, InFlight, ServerWait] | None = None
        self._stack = AsyncExitStack()
        self._control = RunControl()
        self._flights: dict[int, Flight] = {}
        self._tickets = 0
        self._runs: set[asyncio.Task[TPOResult]] = set()

    async def reserve(self, remaining: int | None) -> int | TPOError:
        """Wait until there is room for one more job; its ticket is what `run` is called with.

        Args:
            remaining: jobs still to be handed out per worker, if their number is known.

        Returns:
            The ticket, or the error with which this worker cannot be opened.
        """
        try:
            _, in_flight, _ = await self._opened()
        except TPOError as error:
            return error
        await in_flight.room(remaining)
        self._tickets += 1
        self._flights[self._tickets] = in_flight.begin()
        return self._tickets

    async def run(self, ticket: int, job: Job) -> Done | TPOError:
        """Run or resume a job; an error that concerns the other jobs too is returned."""
        flight = self._flights.pop(ticket, None)
        outcome: TPOResult | Exception | None = None
        try:
            runs, in_flight, wait = await self._opened()
            flight = flight or in_flight.begin()  # this is a later life of the one that gave it
            task = asyncio.create_task(self._run(runs, wait, job, flight))
            self._runs.add(task)
            task.add_done_callback(self._runs.discard)
            try:
                outcome = await task
            except asyncio.CancelledError:  # by `close`
                return Done(job.position)
            except Exception as error:
                outcome = error
            return done(job.position, outcome)
        except TPOError as error:
            return error
        finally:
            if flight is not None:
                failure = outcome if isinstance(outcome, Exception) else None
                flight.end(overloaded=is_overload(failure))

    async def drain(self, reason: str) -> None:
        """Stop all runs before their next steps."""
        self._control.request_drain(reason)

    async def close(self) -> None:
        """Stop all runs where they are, let go of their leases, and close the database."""
        for task in (left := [*self._runs]):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        async with self._opening:
            self._open = None
            await self._stack.aclose()

    async def process(self) -> int:
        """This actor's process id."""
        return os.getpid()

    async def _run(self, runs: Session, wait: ServerWait, job: Job, flight: Flight) -> TPOResult:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LEASE_SECONDS
        while True:
            try:
                return await run_job(runs, job, flight, wait, self._control)
            except RunBusyError:
                # A worker that was taken for dead has it still, or did until a moment ago.
                if loop.time() > deadline:
                    raise
            await asyncio.sleep(1.0)

    async def _opened(self) -> tuple[Session, InFlight, ServerWait]:
        async with self._opening:
            if self._open is None:
                orders = self._orders
                actors = await asyncio.to_thread(_actors, orders.reward_actors)
                pool = RewardPool(orders.reward_name, actors)
                runs = await self._stack.enter_async_context(
                    open_session(replace(orders.setup, reward_model=pool))
                )
                # Runs are stored with the model itself, not with the pool: they outlive it.
                named = {"reward_model": orders.setup.named()["reward_model"]}
                runs = replace(runs, specs={**runs.specs, **named})
                in_flight, wait = awaited(
                    orders.width,
                    orders.max_in_flight,
                    orders.wait_for_server,
                    control=self._control,
                )
                self._open = runs, in_flight, wait
            return self._open


def _actors(names: Sequence[str]) -> list[Any]:
    ray: Any = importlib.import_module("ray")
    return [ray.get_actor(name) for name in names]

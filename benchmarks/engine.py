"""A model server's engine, simulated: slots, continuous batching, and a prefix cache.

Every running sequence gets one token per step, and a step takes longer the more sequences run.
Prompt tokens that are not cached are prefilled first, and stop everybody's decoding for as long.
Requests wait in order of arrival. All time comes from the running event loop's clock, so the same
engine runs in real time behind HTTP (`simulated_server`) and in virtual time (`virtual_time`).

What was generated is cached like what was prefilled, as vLLM and SGLang do.

Left out: the memory of the KV cache (it never evicts), and stalls of any other kind.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

CHARACTERS_PER_TOKEN = 4
_BLOCK = 16
"""Tokens of one block of the prefix cache."""


@dataclass(frozen=True)
class Latency:
    """How fast a server is."""

    slots: int
    """Sequences that run at once."""
    step: float
    """Seconds per token of a sequence that runs alone, nearly."""
    per_sequence: float
    """Seconds that each running sequence adds to a step."""
    prefill: float
    """Prompt tokens per second."""

    @property
    def capacity(self) -> float:
        """Tokens per second with every slot in use."""
        return self.slots / self.seconds_per_token(self.slots)

    def seconds_per_token(self, running: int) -> float:
        """Time of one step with so many sequences running."""
        return self.step + self.per_sequence * running


MODELS = {
    "70b": Latency(slots=64, step=22e-3, per_sequence=0.1e-3, prefill=10_000),
    "8b": Latency(slots=256, step=6.5e-3, per_sequence=0.02e-3, prefill=60_000),
}


@dataclass
class Totals:
    """What the engine has done."""

    prompt: int = 0
    prefilled: int = 0
    completion: int = 0
    slowest: float = 0.0
    """Seconds of the slowest request, its waiting included."""

    def seconds(self, latency: Latency) -> float:
        """The work bound: the least time in which this server could have done it."""
        return self.completion / latency.capacity + self.prefilled / latency.prefill


@dataclass
class _Request:
    prompt: str
    done: asyncio.Future[int]
    missing: int
    arrived: float
    cached: int | None = None
    """Prompt tokens found in the cache; None until the first sequence is admitted."""


@dataclass(order=True)
class _Sequence:
    ends: float
    """When the count of tokens given to each sequence so far reaches this."""
    number: int
    reply: str = field(compare=False)
    request: _Request = field(compare=False)

    @property
    def length(self) -> int:
        """Tokens of the reply."""
        return -(-len(self.reply) // CHARACTERS_PER_TOKEN)


class Engine:
    """Runs requests of one or more sequences each; made on the loop that it lives on."""

    def __init__(self, latency: Latency, speed: float = 1.0, caches_replies: bool = True) -> None:
        self.totals = Totals()
        self._latency = latency
        self._speed = speed
        self._caches_replies = caches_replies
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Sequence] = deque()
        self._running: list[_Sequence] = []
        self._blocks: set[int] = set()
        self._numbers = count()
        self._tokens = 0.0
        """Tokens that a sequence has which ran from the beginning."""
        self._prefilling = 0.0
        """Seconds of prefill to come before decoding goes on."""
        self._updated = self._now()
        self._timer: asyncio.TimerHandle | None = None

    async def generate(self, prompt: str, replies: Sequence[str]) -> int:
        """Wait as long as a server would need to write these replies.

        Returns:
            How many tokens of the prompt were cached.
        """
        self._advance()
        request = _Request(prompt, self._loop.create_future(), len(replies), self._updated)
        for reply in replies:
            self._waiting.append(_Sequence(0.0, next(self._numbers), reply, request))
        self._admit()
        try:
            return await request.done
        except asyncio.CancelledError:
            self._advance()
            self._waiting = deque(s for s in self._waiting if s.request is not request)
            self._running = [s for s in self._running if s.request is not request]
            heapq.heapify(self._running)
            self._admit()
            raise

    def _now(self) -> float:
        return self._loop.time() * self._speed

    def _step(self) -> float:
        return self._latency.seconds_per_token(len(self._running))

    def _advance(self) -> None:
        now = self._now()
        passed, self._updated = now - self._updated, now
        prefilled = min(passed, self._prefilling)
        self._prefilling -= prefilled
        if self._running:
            self._tokens += (passed - prefilled) / self._step()

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._latency.slots:
            sequence = self._waiting.popleft()
            if sequence.request.cached is None:
                sequence.request.cached = self._prefill(sequence.request.prompt)
            sequence.ends = self._tokens + sequence.length
            heapq.heappush(self._running, sequence)
        if self._timer is not None:
            self._timer.cancel()
        if self._running:
            wait = self._prefilling + (self._running[0].ends - self._tokens) * self._step()
            self._timer = self._loop.call_later(max(0.0, wait) / self._speed, self._finish)

    def _prefill(self, prompt: str) -> int:
        tokens = -(-len(prompt) // CHARACTERS_PER_TOKEN)
        cached = self._store(prompt)
        self._prefilling += (tokens - cached) / self._latency.prefill
        self.totals.prompt += tokens
        self.totals.prefilled += tokens - cached
        return cached

    def _store(self, text: str) -> int:
        """Tokens of the text that were in the cache already, as a prefix; all of it is now."""
        cached, found, chain = 0, True, 0
        size = _BLOCK * CHARACTERS_PER_TOKEN
        # The last token is never taken from the cache: its logits are needed.
        for start in range(0, len(text) - size, size):
            chain = hash((chain, text[start : start + size]))
            found = found and chain in self._blocks
            cached += _BLOCK * found
            self._blocks.add(chain)
        return cached

    def _finish(self) -> None:
        self._advance()
        while self._running and self._running[0].ends <= self._tokens + 1e-6:
            sequence = heapq.heappop(self._running)
            self.totals.completion += sequence.length
            request = sequence.request
            if self._caches_replies:
                self._store(request.prompt + sequence.reply)
            request.missing -= 1
            if not request.missing and not request.done.done():
                waited = self._updated - request.arrived
                self.totals.slowest = max(self.totals.slowest, waited)
                request.done.set_result(request.cached or 0)
        self._admit()

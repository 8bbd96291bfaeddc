"""A plain Python function as a reward model."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from inspect import isawaitable, iscoroutine
from typing import Any

from tpo_graph.concurrency.callbacks import is_async
from tpo_graph.conversation import Turn, transcript
from tpo_graph.errors import ConfigurationError, RewardInputError, TPOError
from tpo_graph.rewards.function_identity import (
    UnseenError,
    display_name,
    function_digest,
    place_in_source,
)
from tpo_graph.rewards.together import keep, scored_together, together

RewardFunction = Callable[[str, str], float] | Callable[[str, str], Awaitable[float]]
"""f(query, response) -> reward; sync, or async: what it returns is awaited if need be."""


class FunctionReward:
    """Rewards by `function(query, response)`, where query is the last user message.

    A sync function runs in a thread, so it may be slow; an async one, for all responses at once.

    Args:
        function: returns a finite number, or a `Score` that says why; more is better.
        name: identity in the score cache; change it whenever scores change. The default is the
            function's name and a digest of its code and of the values that it reads (defaults,
            closure, bound object, globals). When it reads something that is no plain data, or a
            file, its stored scores are not used: give it a name then.

    Raises:
        ConfigurationError: it cannot be called with a query and a response.
    """

    def __init__(self, function: RewardFunction, name: str | None = None) -> None:
        _need_two_arguments(function)
        self._function: Callable[[str, str], Any] = function
        self.title = f"function {place_in_source(function)}" if name is None else f"model {name!r}"
        """What errors call it."""
        self.nameless: str | None = None
        """Why the name does not tell this function from others, if so; see `reuses_scores`."""
        if name is None:
            try:
                name = f"function:{display_name(function)}@{function_digest(function)}"
            except UnseenError as error:
                name, self.nameless = f"function:{display_name(function)}@unnamed", str(error)
        self.name = name

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`.

        Raises:
            RewardInputError: the function raised something that the texts may have caused, such as
                ValueError or KeyError; not for the network's errors.
        """
        users = [t["content"] for t in conversation if t["role"] == "user" and "tool" not in t]
        query = users[-1] if users else transcript(conversation)

        async def one(response: str) -> Any:
            with self._told():
                return await self._function(query, response)

        if is_async(self._function):
            return list(await scored_together(responses, one))
        return await self._from_thread(query, responses)

    async def _from_thread(self, query: str, responses: Sequence[str]) -> list[float]:
        """Of a plain function; what it returns may have to be awaited, as from `lambda q, r:
        ask(q, r)`."""
        found: list[Any] = []

        def each() -> None:
            for response in responses:
                with self._told():
                    found.append(self._function(query, response))
                if not isawaitable(found[-1]):
                    keep([response], [found[-1]])

        async def waited(position: int) -> None:
            with self._told():
                found[position] = await found[position]
            keep([responses[position]], [found[position]])

        try:
            await asyncio.to_thread(each)
            waiting = [at for at, score in enumerate(found) if isawaitable(score)]
            await together(waited(position) for position in waiting)
        finally:  # Python warns of those that were never begun
            for score in found:
                if iscoroutine(score):
                    score.close()
        return found

    @contextmanager
    def _told(self) -> Generator[None]:
        """Around each call: an event loop would hang on StopIteration, and end on SystemExit."""
        try:
            yield
        except _BY_TEXTS as error:
            if isinstance(error, TPOError):
                raise
            raise RewardInputError(
                f"reward {self.title} failed: {type(error).__name__}: {error}"
            ) from error


_BY_TEXTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    StopIteration,
    SystemExit,
    TypeError,
    ValueError,
)


def _need_two_arguments(function: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C: the first call will tell
        return
    try:
        signature.bind("query", "response")
    except TypeError as error:
        raise ConfigurationError(
            f"the reward function {place_in_source(function)} takes {signature}, and must take "
            f"(query, response): {error}"
        ) from error

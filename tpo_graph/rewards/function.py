"""A plain Python function as a reward model."""

import asyncio
import hashlib
import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from tokenize import TokenError
from typing import Any, cast

from tpo_graph.conversation import Turn, transcript

RewardFunction = Callable[[str, str], float] | Callable[[str, str], Awaitable[float]]
"""f(query, response) -> reward; sync or async."""


class FunctionReward:
    """Rewards by `function(query, response)`, where query is the last user message.

    A sync function runs in a thread, so it may be slow; an async one, for all responses at once.

    Args:
        function: returns a finite number, more is better.
        name: identity in the score cache. The default is the function's name and a digest of its
            source: give a name when scores depend on more than that (a closure, a file).
    """

    def __init__(self, function: RewardFunction, name: str | None = None) -> None:
        self._function: Callable[[str, str], Any] = function
        self.name = name or _name(function)

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`."""
        users = [t["content"] for t in conversation if t["role"] == "user" and "tool" not in t]
        query = users[-1] if users else transcript(conversation)
        if _is_async(self._function):
            return list(await asyncio.gather(*(self._function(query, r) for r in responses)))
        return await asyncio.to_thread(lambda: [self._function(query, r) for r in responses])


def _is_async(function: Callable[..., Any]) -> bool:
    call = getattr(function, "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def _name(function: Callable[..., Any]) -> str:
    inner: Any = function
    bound: list[object] = []
    while isinstance(inner, partial):
        piece = cast("partial[Any]", inner)
        bound += [piece.args, sorted(piece.keywords.items())]
        inner = piece.func
    described: Any = inner if hasattr(inner, "__qualname__") else cast(Any, type(inner))
    digest = hashlib.sha256(_source(described) + repr(bound or "").encode()).hexdigest()[:12]
    return f"function:{described.__module__}.{described.__qualname__}@{digest}"


def _source(described: Any) -> bytes:
    try:
        return inspect.getsource(described).encode()
    except (OSError, TypeError, SyntaxError, TokenError):  # typed at a prompt, or not Python
        code = getattr(described, "__code__", None)
        return code.co_code + repr(code.co_names).encode() if code else b""

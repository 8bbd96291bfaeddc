"""Functions that a caller gives to be called back: plain ones, and async ones where one can wait.

An async function that is called and not awaited does nothing, and what it returns counts as true.
"""

import inspect
from collections.abc import Awaitable
from typing import TypeVar, cast

from tpo_graph.errors import ConfigurationError

T = TypeVar("T")


async def settled(given: T | Awaitable[T]) -> T:
    """What a plain or an async function has returned, awaited if need be."""
    return cast(T, await given) if inspect.isawaitable(given) else given


def is_async(function: object) -> bool:
    """Whether calling it gives something to await, as far as that shows before the call."""
    call = getattr(function, "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def need_callable(name: str, given: object, of: str) -> None:
    """Refuse a callback that cannot be called, before anything is paid for.

    Args:
        name: of the argument that it was given as.
        given: the callback; None for none.
        of: what it is called with, as in "request, draft".

    Raises:
        ConfigurationError: it is no function, or one of other arguments.
    """
    if given is None:
        return
    if not callable(given):
        raise ConfigurationError(f"{name}={given!r:.200} is not a function: give one of ({of})")
    try:
        signature = inspect.signature(given)
    except (TypeError, ValueError):  # written in C: the first call will tell
        return
    try:
        signature.bind(*of.split(", "))
    except TypeError as error:
        raise ConfigurationError(
            f"{name}={given!r:.200} takes {signature}, and must take ({of}): {error}"
        ) from error


def need_plain(name: str, given: object, returned: object = None) -> None:
    """Refuse an async callback where nobody waits for it.

    Args:
        name: of the argument that it was given as.
        given: the callback; None for none.
        returned: what a call of it gave, if there was one: a lambda's kind does not tell.

    Raises:
        ConfigurationError: it is async.
    """
    if inspect.iscoroutine(returned):  # a task that it began runs by itself
        returned.close()  # or Python warns of it
    elif not is_async(given):
        return
    raise ConfigurationError(
        f"{name}={given!r:.200} is async, and cannot be awaited here: give a plain function"
    )

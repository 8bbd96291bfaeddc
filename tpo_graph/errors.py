"""Every error tpo_graph raises on purpose, named after the boundary that failed.

    TPOError
    ├── ConfigurationError      an option, a model name or a file is wrong; nothing was run
    │   └── PromptError         a prompt set is missing, malformed or uses a variable it must not
    ├── PolicyError             the policy or the critic failed or never gave a usable reply
    ├── RewardError             the reward model failed, or gave no finite number
    │   └── RewardInputError    this text cannot be scored (too long, no chat template, ...)
    ├── ServerAwayError         a model server was away for longer than it was waited for
    └── StoreError              the database failed; what was committed before is intact
        ├── RunNotFoundError    no run of that id is stored
        ├── RunExistsError      a run of that id is stored already
        ├── RunBusyError        another process holds the run
        └── DatabaseVersionError  the database was written by a newer tpo_graph

Each message shows the offending value with ``repr`` and says the fix; the cause is kept in
``__cause__``. Errors of LangGraph itself (recursion limit, interrupts) pass through untouched.
"""

from collections.abc import Collection
from difflib import get_close_matches

from tpo_graph.redaction import redacted


class TPOError(Exception):
    """Base of every error tpo_graph raises on purpose."""


class ConfigurationError(TPOError, ValueError):
    """An option, a model name or a file is wrong. Nothing was run."""


class PromptError(ConfigurationError):
    """A prompt set is missing, malformed, or uses a variable it must not use."""


class PolicyError(TPOError):
    """The policy (or the critic) failed, or never gave a usable reply."""


class RewardError(TPOError):
    """The reward model failed, or did not return one finite number per response."""


class RewardInputError(RewardError, ValueError):
    """A text that this reward model cannot score: too long, or impossible to template."""


class ServerAwayError(TPOError):
    """A model server was away for longer than it was waited for; what ran can be resumed."""


class StoreError(TPOError):
    """The database failed. Rows committed before the failure are intact."""


class RunNotFoundError(StoreError, LookupError):
    """No run of that id is stored in this database."""


class RunExistsError(StoreError):
    """A run of that id is stored already, so that no new one can have it."""


class RunBusyError(StoreError):
    """Another live process is working on this run."""


class DatabaseVersionError(StoreError):
    """The database was written by a newer version of tpo_graph."""


def error_line(error: BaseException) -> str:
    """An error in one line of at most 500 characters, redacted, as rows of a database keep it."""
    return redacted(f"{type(error).__name__}: {error}".partition("\n")[0])[:500]


def nearest(name: str, known: Collection[str], *, cutoff: float = 0.6) -> str | None:
    """The known name that a wrong one was probably meant to be; None if none is like it."""
    return next(iter(get_close_matches(name, known, n=1, cutoff=cutoff)), None)


def instead(name: str, known: Collection[str]) -> str:
    """What an error says after a wrong name: the one that was meant, or all there are."""
    close = nearest(name, known)
    return f"there are {', '.join(known)}" if close is None else f"did you mean {close!r}?"

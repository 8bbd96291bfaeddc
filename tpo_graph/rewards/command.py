"""`CommandReward`: a program of yours scores one response at a time."""

import asyncio
import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError, RewardError, RewardInputError
from tpo_graph.rewards.base import Score
from tpo_graph.rewards.processes import Finished, run_program
from tpo_graph.rewards.together import Slots, scored_together

_NOT_RUN = (126, 127)
"""Exit statuses of a shell or `env` that could not run the program."""


class CommandReward:
    """Scores by a program: JSON in, a number out.

    Standard input is `{"conversation": [{"role": ..., "content": ...}, ...], "response": ...}`;
    standard output is a number, or `{"score": NUMBER, "reason": TEXT}`. The program runs once per
    response, without a shell, in the current folder. Of this process's environment it gets what a
    program needs to start and to write text (PATH, HOME, LANG and their like), and no keys.

    Args:
        command: program and arguments, as a shell would split them, or as a list.
        timeout: seconds for one response.
        name: identity in the score cache. The default is a digest of the command and of the files
            that it names: give a name when scores depend on more.
        max_concurrency: most programs running at once, per event loop.
        environment: names of further variables that it gets, such as ["OPENAI_API_KEY"].

    Raises:
        ConfigurationError: there is no such program or variable, or the time limit is not above 0.
    """

    bounded = False

    def __init__(
        self,
        command: str | Sequence[str],
        *,
        timeout: float = 60.0,
        name: str | None = None,
        max_concurrency: int | None = None,
        environment: Sequence[str] = (),
    ) -> None:
        self._arguments = _split(command)
        if not timeout > 0:
            raise ConfigurationError(f"timeout={timeout!r} seconds: it must be above 0")
        self._timeout = timeout
        self._environment = _environment(environment)
        self._slots = Slots(max_concurrency or os.cpu_count() or 1)
        self.name = name or f"command:{Path(self._arguments[0]).name}@{_digest(self._arguments)}"

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`. A program that fails, prints something else or takes too long
        cannot score that response; one that cannot be run is a model that failed."""
        return list(await scored_together(responses, lambda r: self._score(conversation, r)))

    async def _score(self, conversation: Sequence[Turn], response: str) -> Score:
        given = json.dumps({"conversation": list(conversation), "response": response}).encode()
        shown = shlex.join(self._arguments)
        async with self._slots.here():
            try:
                done = await run_program(
                    self._arguments, given, timeout=self._timeout, environment=self._environment
                )
            except OSError as error:
                raise RewardError(f"the command {shown!r} cannot be run: {error}") from error
        if done.status is None:
            raise RewardInputError(
                f"the command {shown!r} took longer than {self._timeout:g} s for a response: "
                "raise the limit with ?timeout=SECONDS."
            )
        if done.status in _NOT_RUN:
            raise RewardError(f"the command {shown!r} cannot be run: {_last_line(done)}")
        if done.status != 0:
            raise RewardInputError(
                f"the command {shown!r} failed with status {done.status}: {_last_line(done)}"
            )
        return await asyncio.to_thread(_read, done.output, shown)


_PASSED_ON = re.compile(
    r"(?:PATH|HOME|USER|LOGNAME|SHELL|TMPDIR|TZ|LANG|LANGUAGE|LC_\w+|VIRTUAL_ENV|PYTHONPATH"
    r"|LD_LIBRARY_PATH|SYSTEMROOT)$"
)


def _environment(names: Sequence[str]) -> dict[str, str]:
    if missing := sorted(name for name in names if name not in os.environ):
        raise ConfigurationError(f"the command is to get {missing!r}, which are not set: set them")
    return {
        name: value for name, value in os.environ.items() if name in names or _PASSED_ON.match(name)
    }


def _split(command: str | Sequence[str]) -> list[str]:
    try:
        arguments = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise ConfigurationError(f"the command {command!r} cannot be split: {error}") from error
    if not arguments:
        raise ConfigurationError("no command is named: write command:./score.sh")
    program = os.path.expanduser(arguments[0])
    found = shutil.which(program)
    if found is None:
        why = "is not executable: chmod +x" if Path(program).is_file() else "is not there"
        raise ConfigurationError(f"the program {arguments[0]!r} {why}")
    return [os.path.abspath(found), *arguments[1:]]


def _digest(arguments: Sequence[str]) -> str:
    digest = hashlib.sha256(json.dumps([Path(arguments[0]).name, *arguments[1:]]).encode())
    for argument in arguments:
        if os.path.isfile(argument):
            with open(argument, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def _last_line(done: Finished) -> str:
    lines = done.errors.strip().splitlines()
    return repr(lines[-1][:300]) if lines else "nothing on standard error"


def _read(output: str, shown: str) -> Score:
    try:
        found: object = json.loads(output)
    except ValueError:
        found = None
    told = cast("dict[str, object]", found) if isinstance(found, dict) else {"score": found}
    value, reason = told.get("score"), told.get("reason", "")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RewardInputError(
            f"the command {shown!r} printed {output.strip()[:200]!r}: it must print a number, or "
            '{"score": NUMBER, "reason": TEXT}, and nothing else.'
        )
    return Score(value, reason if isinstance(reason, str) else json.dumps(reason))

"""`UnitTestReward`: tests of yours, run on the code of a response.

The code runs in a process of its own with limits. That protects against mistakes, not against an
attacker: see docs/rewards.md for what it does not stop.
"""

import ast
import hashlib
import json
import os
import re
import secrets
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Self, cast

from tpo_graph.conversation import Turn, well_formed
from tpo_graph.errors import ConfigurationError, RewardError
from tpo_graph.rewards.base import Score
from tpo_graph.rewards.processes import run_program
from tpo_graph.rewards.together import Slots, scored_together

_FENCED = re.compile(r"```[ \t]*(\w*)[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_PYTHON = ("python", "python3", "py")


@dataclass(frozen=True)
class Limits:
    """What the code of one response may use."""

    seconds: float = 10.0
    """For all tests together, of real time; as much processor time."""
    memory: int = 1 << 30
    """Bytes of address space."""
    file_size: int = 16 << 20
    """Bytes of one file that it writes."""
    open_files: int = 64


class UnitTestReward:
    """Scores by the share of tests that the code in a response passes, from 0 to 1.

    A test is a function of the file whose name begins with `test` and that needs no arguments, or
    an `assert` at its top level; other statements run in between, in order. The tests see the names
    that the response's code defines, and can import them from `solution`. The code is that of all
    Python blocks of the response together, or the whole response when it has no block.

    Args:
        tests: Python source.
        filename: what messages call it.
        limits: what the code may use.
        max_concurrency: most processes at once, per event loop.

    Raises:
        ConfigurationError: the tests are not Python, or there is none.
    """

    bounded = True

    def __init__(
        self,
        tests: str,
        *,
        filename: str = "tests.py",
        limits: Limits | None = None,
        max_concurrency: int | None = None,
    ) -> None:
        try:
            tree = ast.parse(tests, filename)
        except (SyntaxError, ValueError) as error:
            raise ConfigurationError(f"the tests {filename!r} are not Python: {error}") from error
        if not any(map(_is_test, tree.body)):
            raise ConfigurationError(
                f"there is no test in {filename!r}: write functions called test_..., or asserts"
            )
        self._tests, self._filename = tests, filename
        self._limits = limits or Limits()
        self._slots = Slots(max_concurrency or os.cpu_count() or 1)
        self._runner = resources.files("tpo_graph.rewards").joinpath("code_runner.py").read_text()
        described = json.dumps([tests, asdict(self._limits), self._runner, sys.version_info[:2]])
        digest = hashlib.sha256(described.encode()).hexdigest()[:12]
        self.name = f"tests:{filename}@{digest}"

    @classmethod
    def from_file(cls, path: Path, *, timeout: float | None = None) -> Self:
        """From a file of tests.

        Raises:
            ConfigurationError: it cannot be read, is not Python, or has no test.
        """
        try:
            tests = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"the tests {str(path)!r} cannot be read: {error}") from error
        limits = None if timeout is None else Limits(seconds=timeout)
        return cls(tests, filename=path.name, limits=limits)

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`. The reason is the message of the first test that failed."""
        return list(await scored_together(responses, self._score))

    async def _score(self, response: str) -> Score:
        # Results are signed with a word that the code is not told, so that it cannot print them.
        sign = secrets.token_hex(16)
        asked = {
            "sign": sign,
            "code": code_of(response),
            "tests": self._tests,
            "filename": self._filename,
            "limits": asdict(self._limits),
        }
        async with self._slots.here():
            with tempfile.TemporaryDirectory(prefix="tpo-tests-") as folder:
                try:
                    done = await run_program(
                        [sys.executable, "-I", "-B", "-c", self._runner],
                        json.dumps(asked).encode(),
                        timeout=self._limits.seconds,
                        environment=_environment(folder),
                        folder=folder,
                    )
                except OSError as error:
                    raise RewardError(f"the tests cannot be run: {error}") from error
        told = [line.removeprefix(sign) for line in done.output.split("\n") if line[:32] == sign]
        events = [cast("dict[str, Any]", json.loads(line)) for line in told]
        ended = (
            f"stopped after {self._limits.seconds:g} s" if done.status is None else "ended early"
        )
        return _result(events, ended)


def code_of(response: str) -> str:
    """The Python of a response: its blocks of Python, or of no named language, else all of it."""
    blocks = [(kind.lower(), code) for kind, code in _FENCED.findall(well_formed(response))]
    named = [code for kind, code in blocks if kind in _PYTHON]
    plain = [code for kind, code in blocks if not kind]
    return "\n".join(named or plain) if blocks else well_formed(response)


def _is_test(node: ast.stmt) -> bool:
    named = isinstance(node, ast.FunctionDef) and node.name.startswith("test")
    return named or isinstance(node, ast.Assert)


def _environment(folder: str) -> dict[str, str]:
    """No variable of this process: keys are not for code that a model wrote."""
    return {"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8"}


def _result(events: Sequence[dict[str, Any]], ended: str) -> Score:
    """The score of what the runner said: `count`, then `begin` and `end` of each test."""
    counts = [event["count"] for event in events if "count" in event]
    if not counts:
        return Score(0.0, f"the code could not be run: it was {ended}")
    total = counts[0]
    results = {event["test"]: event["failure"] for event in events if "failure" in event}
    passed = sum(failure is None for failure in results.values())
    failures = [f"{test}: {failure}" for test, failure in results.items() if failure is not None]
    begun = [event["test"] for event in events if "test" in event]
    if not failures and len(results) < total:
        where = begun[-1] if begun else "the code"
        failures = [f"{where}: {ended}"]
    if not failures:
        return Score(1.0)
    return Score(passed / total, f"{passed} of {total} tests passed. {failures[0]}")

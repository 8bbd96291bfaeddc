"""`tpo batch` with 50 rows in flight, killed and started again with the same command.

The model server's own log is the judge: what a row's finished steps have paid for is not paid for
again. The database and the output end up as those of a batch that nobody killed.
"""

import json
import random
import re
import signal
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.kills.harness import Launcher, identity, respond, rows
from tests.openai_server import Behaviour, Call, OpenAIServer

ROWS = 50
CALLS = 4  # sample, loss, gradient, update
OPTIONS = ["--model", "openai:fake", "--reward-model", "local:length", "--seed", "3"]
OPTIONS += ["--width", "2", "--depth", "1", "--name", "b", "--max-in-flight", str(ROWS)]
Reference = tuple[dict[str, Any], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(respond, rule=lambda call: Behaviour(delay=0.05)) as server:
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batch")
    lines = [json.dumps({"prompt": f"row-{n}- {{x}} <SEP>", "n": n}) for n in range(ROWS)]
    (folder / "in.jsonl").write_text("\n".join([*lines, '{"prompt": "half-wri']))
    return folder


@pytest.fixture(scope="module")
def launcher(server: OpenAIServer, folder: Path) -> Iterator[Launcher]:
    environment = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-fake"}
    with Launcher(environment, folder) as launcher:
        yield launcher


@pytest.fixture(scope="module")
def reference(launcher: Launcher, server: OpenAIServer, folder: Path) -> Reference:
    """The rows of the database and of the output of a batch that nobody killed."""
    url = f"sqlite:///{folder / 'whole.db'}"
    output = folder / "whole.jsonl"
    assert launcher.tpo(*command(folder, output, url)).status == 1, stderr(launcher)
    found = output_rows(output)
    assert [row.get("n") for row in found] == [*range(ROWS), None]
    assert len(server.calls) == ROWS * CALLS
    return rows(url), found


def command(folder: Path, output: Path, url: str) -> list[str]:
    place = ["--output", str(output), "--database", url]
    return ["batch", str(folder / "in.jsonl"), *place, *OPTIONS]


def stderr(launcher: Launcher) -> str:
    return (launcher.folder / "stderr.txt").read_text()


def output_rows(path: Path) -> list[dict[str, Any]]:
    """The output, without what is different each time."""
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in found:
        row.pop("run_id")
        for usage in (row["usage"] or {}).values():
            usage.pop("seconds")
    return found


def row_of(call: Call) -> str:
    match = re.search(r"row-\d+-", json.dumps(call.messages))
    assert match is not None
    return match[0]


def repeats(processes: Sequence[Sequence[Call]]) -> list[dict[str, int]]:
    """For each process after the first: how many answered calls of each row it made again."""
    answered: set[str] = set()
    found: list[dict[str, int]] = []
    for calls in processes:
        again: dict[str, int] = defaultdict(int)
        for call in calls:
            again[row_of(call)] += identity(call) in answered
        found.append(again)
        answered |= {identity(call) for call in calls if call.ended is not None}
    return found[1:]


def check(
    processes: Sequence[Sequence[Call]], url: str, output: Path, reference: Reference
) -> None:
    for again in repeats(processes):
        # At most the call that was under way, whose answer may have arrived and not been stored.
        assert max(again.values(), default=0) <= 1
    calls = [call for process in processes for call in process]
    assert len({identity(call) for call in calls}) == ROWS * CALLS
    found = rows(url)
    for table, expected in reference[0].items():
        assert found[table] == expected, table
    assert output_rows(output) == reference[1]


def kill_at_random_moments(
    chance: random.Random,
    kills: int,
    url: str,
    output: Path,
    launcher: Launcher,
    server: OpenAIServer,
    reference: Reference,
) -> None:
    """Kill a process after some dozens of calls, again and again; then let one finish."""
    processes: list[list[Call]] = []
    for kill in range(kills + 1):
        begun = len(server.calls)
        after = begun + chance.randint(1, 2 * ROWS)
        last = kill == kills
        end = launcher.tpo(
            *command(launcher.folder, output, url),
            when=None if last else lambda after=after: len(server.calls) >= after,
            later=chance.random() * 0.1,
        )
        processes.append(server.calls[begun:])
        if end.status != -signal.SIGKILL:
            assert end.status == 1, stderr(launcher)  # the half-written row
            break
        assert not output.exists()
    assert len(processes) > 2
    check(processes, url, output, reference)


def test_killed_with_fifty_rows_in_flight(
    database_url: str, launcher, server, reference, tmp_path: Path
) -> None:
    kill_at_random_moments(
        random.Random(7), 3, database_url, tmp_path / "out.jsonl", launcher, server, reference
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_many_times(
    database_url: str, launcher, server, reference, tmp_path: Path, seed: int
) -> None:
    kill_at_random_moments(
        random.Random(seed), 8, database_url, tmp_path / "out.jsonl", launcher, server, reference
    )


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_a_signal_writes_what_there_is_and_nothing_is_paid_twice(
    sqlite_url: str, launcher, server, reference, tmp_path: Path, number: int, status: int
) -> None:
    output = tmp_path / "out.jsonl"
    ask = command(launcher.folder, output, sqlite_url)
    ask[ask.index("--max-in-flight") + 1] = "20"
    begun = len(server.calls)
    end = launcher.tpo(
        *ask, "--fresh", when=lambda: len(server.calls) >= begun + 110, with_signal=number
    )
    assert end.status == status
    said = stderr(launcher)
    assert f"Resume with: tpo {' '.join(ask)}\n" in said
    assert "--fresh" not in said.rpartition("Resume with")[2]
    stopped = output_rows(output)
    ended = [row["response"] is not None for row in stopped[:-1]]
    assert len(ended) == ROWS
    assert 0 < sum(ended) < ROWS
    assert all(call.ended for call in server.calls[begun:])
    middle = len(server.calls)
    assert launcher.tpo(*ask).status == 1
    processes = [server.calls[begun:middle], server.calls[middle:]]
    assert sum(repeats(processes)[0].values()) == 0
    check(processes, sqlite_url, output, reference)

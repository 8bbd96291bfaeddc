"""Fixtures of all tests."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.databases import (  # noqa: F401
    database_url,
    postgres_server,
    postgres_url,
    sqlite_url,
    store,
)

ROOT = Path(__file__).parent.parent

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")  # a busy machine is no failure


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """All tests run beside each other; those that are named start sooner in this process alone."""
    every = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return None if every and config.option.markexpr != "slow" else 0

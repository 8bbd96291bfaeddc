"""Fixtures of all tests."""

from pathlib import Path

import pytest

from tests.databases import (  # noqa: F401
    database_url,
    postgres_server,
    postgres_url,
    sqlite_url,
)

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")

"""The factory and the checkpointer that langgraph.json names, without the server around them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from tpo_graph import studio
from tpo_graph.errors import ConfigurationError


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A process that has read no configuration yet, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.setenv("TPO_MODEL", "openai:scripted")
    monkeypatch.setenv("TPO_REWARD_MODEL", "judge:openai:judge")
    forget()
    yield
    forget()


def forget() -> None:
    for cached in (studio._settings, studio._loaded, studio._graph):  # what a process reads once
        cached.cache_clear()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("TPO_REWARD_MODEL", "none", "no reward model is configured"),
        ("TPO_MODEL", "none", "no model is configured"),
        ("TPO_WIDTH", "0", "width=0 is not valid"),
        ("TPO_CONFIG", "missing.toml", "missing.toml"),
        ("TPO_DATABASE_URL", "mysql://x", "mysql"),
    ],
)
async def test_a_wrong_setting_ends_the_start(
    name: str, value: str, why: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=why):
        async with studio.checkpointer():
            pass


async def test_the_file_in_the_working_directory_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tpo.toml").write_text("width = 7\n")
    async with studio.checkpointer():
        shown = (await studio.graph()).get_context_jsonschema()
    assert shown["properties"]["width"]["default"] == 7


async def test_checkpoints_go_to_the_configured_database(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("TPO_DATABASE_URL", "sqlite:///mine.db")
    async with studio.checkpointer() as saver:
        assert isinstance(saver, AsyncSqliteSaver)
        assert (tmp_path / "mine.db").is_file()


async def test_without_a_database_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("TPO_DATABASE_URL", "none")
    async with studio.checkpointer() as saver:
        assert isinstance(saver, InMemorySaver)
    assert not (tmp_path / "tpo.db").exists()


async def test_one_graph_without_a_checkpointer_of_its_own():
    first, second = await studio.graph(), await studio.graph()
    assert first is second
    assert first.checkpointer is None

"""Checkpoints: what is stored can be taken up again, and a planted row runs nothing."""

import asyncio
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import ormsgpack
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from sqlalchemy import text

from tpo_graph.errors import ConfigurationError, StoreError
from tpo_graph.store import Store, open_store
from tpo_graph.store.checkpoints import KEY_VARIABLE, strict_serializer

HERE = {"configurable": {"thread_id": "t", "checkpoint_ns": ""}}
KEY = "0123456789abcdef"


async def put(store: Store, value: object) -> None:
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"] = {"messages": [HumanMessage("hello there")], "value": value}
    checkpoint["channel_versions"] = {"messages": "1", "value": "1"}
    await store.checkpointer.aput(HERE, checkpoint, {}, {"messages": "1", "value": "1"})
    await store.checkpointer.aput_writes(
        {"configurable": {**HERE["configurable"], "checkpoint_id": checkpoint["id"]}},
        [("messages", AIMessage("hi"))],
        "task",
    )


async def read(store: Store) -> dict[str, object]:
    found = await store.checkpointer.aget_tuple(HERE)
    assert found is not None
    return found.checkpoint["channel_values"]


async def test_state_comes_back_as_it_was(database_url: str) -> None:
    value = {"reward": 1.5, "samples": ["a", "b"], "chosen": None}
    async with open_store(database_url) as store:
        await put(store, value)
    async with open_store(database_url) as store:
        values = await read(store)
        assert values["value"] == value
        assert values["messages"] == [HumanMessage("hello there")]


async def test_a_save_that_is_cancelled_leaves_no_lock(sqlite_url: str) -> None:
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), timeout=0, isolation_level=None)
    with closing(other):
        async with open_store(sqlite_url) as store:
            for turns in list(range(12)) * 5:
                saving = asyncio.ensure_future(put(store, "x" * 10_000))
                for _ in range(turns):
                    await asyncio.sleep(0)
                saving.cancel()
                with suppress(asyncio.CancelledError):
                    await saving
                other.execute("BEGIN IMMEDIATE")
                other.execute("ROLLBACK")


async def test_a_store_that_closes_waits_for_what_is_being_saved(sqlite_url: str) -> None:
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), timeout=0, isolation_level=None)
    with closing(other):
        for turns in list(range(1, 8)) * 3:
            async with open_store(sqlite_url) as store:
                saving = asyncio.ensure_future(put(store, "x" * 10_000))
                for _ in range(turns):
                    await asyncio.sleep(0)
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
            with suppress(ValueError):  # what it saves next finds no connection
                await saving


@pytest.mark.parametrize("ours", [True, False])
async def test_what_the_next_checkpoint_repeats_is_saved_once(
    database_url: str, ours: bool
) -> None:
    place = {**HERE["configurable"], **({"tpo_run_id": "r"} if ours else {})}
    written = [("loss", "no proof"), ("__error__", "cut short")]
    async with open_store(database_url) as store:
        config = await store.checkpointer.aput({"configurable": place}, empty_checkpoint(), {}, {})
        place["checkpoint_id"] = config["configurable"]["checkpoint_id"]
        await store.checkpointer.aput_writes({"configurable": place}, written, "task")
        found = await store.checkpointer.aget_tuple(config)
    assert found is not None
    kept = sorted(channel for _, channel, _ in found.pending_writes or [])
    assert kept == (["__error__"] if ours else ["__error__", "loss"])


def hostile(marker: Path) -> list[bytes]:
    """What someone who can write to the database would plant: each would make `marker`."""
    call = ("pathlib", "Path", str(marker), "touch")
    system = ("os", "system", f"touch {marker}")
    arguments = ("subprocess", "check_call", (["touch", str(marker)],))
    return [
        ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(value)))
        for code, value in ((0, system), (1, arguments), (3, call))
    ]


async def test_a_planted_row_runs_nothing(database_url: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    bait = hostile(marker)
    permissive = JsonPlusSerializer(allowed_msgpack_modules=True)
    permissive.loads_typed(("msgpack", bait[0]))
    assert marker.exists(), "the bait itself does not work"
    marker.unlink()

    table, column = (
        ("writes", "value") if database_url.startswith("sqlite") else ("checkpoint_writes", "blob")
    )
    for blob in bait:
        async with open_store(database_url) as store:
            await put(store, {"reward": 1.0})
            with store.engine.begin() as connection:
                connection.execute(text(f"UPDATE {table} SET {column} = :blob"), {"blob": blob})
            await read(store)
            assert not marker.exists()


@pytest.mark.parametrize("kind", ["pickle", "json"])
def test_other_formats_run_nothing(kind: str, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    constructor = {
        "lc": 2,
        "type": "constructor",
        "id": ["os", "system"],
        "args": [f"touch {marker}"],
    }
    blob = (
        b"cos\nsystem\n(S'touch " + str(marker).encode() + b"'\ntR."
        if kind == "pickle"
        else repr(constructor).replace("'", '"').encode()
    )
    with suppress(NotImplementedError):
        strict_serializer().loads_typed((kind, blob))
    assert not marker.exists()


async def test_encrypted_checkpoints_hide_their_text(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    async with open_store(sqlite_url) as store:
        await put(store, "a secret sentence")
        assert (await read(store))["value"] == "a secret sentence"
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    assert b"secret sentence" not in file.read_bytes()  # noqa: ASYNC240
    monkeypatch.delenv(KEY_VARIABLE)
    async with open_store(sqlite_url) as store:
        with pytest.raises(StoreError, match=f"no key is given. Set {KEY_VARIABLE}"):
            await read(store)
    monkeypatch.setenv(KEY_VARIABLE, KEY[::-1])
    async with open_store(sqlite_url) as store:
        with pytest.raises(StoreError, match="written with another key"):
            await read(store)


def test_a_key_of_a_wrong_length_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "too-short")
    with pytest.raises(ConfigurationError, match="16, 24 or 32 bytes") as caught:
        strict_serializer()
    assert os.environ[KEY_VARIABLE] not in str(caught.value)

"""LangGraph's own savers on our database URL, set up so that loading a row runs no code.

`open_store` opens one beside the cache; a graph compiled with it can be resumed from any node.
"""

import asyncio
import os
import select
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import Any, TypeVar

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver
from langgraph.checkpoint.serde.base import CipherProtocol, SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from sqlalchemy import URL, Engine, text
from tenacity import AsyncRetrying, retry_if_exception_message, stop_after_attempt, wait_fixed

from tpo_graph.concurrency.shielded import shielded
from tpo_graph.errors import ConfigurationError, StoreError
from tpo_graph.extras import extra
from tpo_graph.store.failures import explained
from tpo_graph.store.migrate import alone
from tpo_graph.store.patience import Patience
from tpo_graph.store.urls import BUSY_SECONDS, openable, shown, sqlite_pragmas

T = TypeVar("T")

KEY_VARIABLE = "LANGGRAPH_AES_KEY"
_SETUP_TRIES = 20
_TRY_SECONDS = 2.0
"""How long the pool has for one attempt to connect to PostgreSQL."""


def strict_serializer() -> SerializerProtocol:
    """The serializer of checkpoints: plain values and messages only, whatever a row asks for.

    With `LANGGRAPH_AES_KEY` in the environment (16, 24 or 32 bytes), values are encrypted.

    Raises:
        ConfigurationError: the key has another length, or pycryptodome is not installed.
    """
    # LangGraph's default imports and calls any name that a row contains.
    plain = _Plain(pickle_fallback=False, allowed_json_modules=None, allowed_msgpack_modules=None)
    if not os.environ.get(KEY_VARIABLE):
        return plain
    with extra("encryption", f"encryption of checkpoints ({KEY_VARIABLE} is set)"):
        import_module("Crypto.Cipher.AES")  # what LangGraph says without it names no extra
    try:
        encrypted = EncryptedSerializer.from_pycryptodome_aes(serde=plain)
    except ValueError as e:
        raise ConfigurationError(
            f"{KEY_VARIABLE} must be 16, 24 or 32 bytes long "
            f"(it has {len(os.environ[KEY_VARIABLE].encode())})."
        ) from e
    return EncryptedSerializer(_Cipher(encrypted.cipher), plain)


class _Plain(JsonPlusSerializer):
    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        if "+" in data[0]:
            raise StoreError(
                f"the checkpoints are encrypted ({data[0]!r}) and no key is given. Set "
                f"{KEY_VARIABLE} to the key that they were written with."
            )
        return super().loads_typed(data)


class _Cipher(CipherProtocol):
    def __init__(self, cipher: CipherProtocol) -> None:
        self._cipher = cipher

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return self._cipher.encrypt(plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        try:
            return self._cipher.decrypt(ciphername, ciphertext)
        except ValueError as e:
            raise StoreError(
                f"a checkpoint cannot be decrypted ({e}): it was written with another key, or is "
                f"damaged. Set {KEY_VARIABLE} to the key that it was written with."
            ) from e


def open_checkpointer(
    url: URL, synchronous: str, writer: Patience
) -> AbstractAsyncContextManager[BaseCheckpointSaver[str]]:
    """The official saver for `url`, closed at the end; on PostgreSQL its tables must be there.

    It belongs to the event loop that opened it.

    Args:
        synchronous: SQLite's pragma of that name (`urls.make_engine`).
        writer: patience of those who write beside it: when that is over, so is the saver's.
    """
    sqlite = url.get_backend_name() == "sqlite"
    return _sqlite(url, synchronous) if sqlite else _postgres(url, writer)


@asynccontextmanager
async def _sqlite(url: URL, synchronous: str) -> AsyncGenerator[BaseCheckpointSaver[Any]]:
    place, given = url.get_dialect()().create_connect_args(openable(url))
    # IMMEDIATE: a transaction waits for the write lock at its beginning, where it still can.
    options: dict[str, Any] = {**given, "timeout": BUSY_SECONDS, "isolation_level": "IMMEDIATE"}
    async with aiosqlite.connect(place[0], **options) as connection:
        for pragma in sqlite_pragmas(synchronous):
            await connection.execute(pragma)
        saver = _SqliteSaver(connection, serde=strict_serializer())
        # Turning a new file to WAL does not wait for a process that does so at the same moment.
        again = AsyncRetrying(
            retry=retry_if_exception_message(match=".*locked"),
            wait=wait_fixed(0.05),
            stop=stop_after_attempt(_SETUP_TRIES),
            reraise=True,
        )
        await again(saver.setup)
        try:
            yield saver
        finally:
            await saver.ended()


class _OncePerStep(BaseCheckpointSaver[Any]):
    """Does not save what a node of ours has returned before the checkpoint that repeats it.

    In between are a few milliseconds, and a run has one node at a time; LangGraph saves both for
    graphs whose nodes run side by side. What is in no checkpoint (errors, interrupts and the
    answers to them) is saved, and all that other graphs save in this database.
    """

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        if "tpo_run_id" in config.get("configurable", {}):
            writes = [write for write in writes if write[0] in WRITES_IDX_MAP]
        if writes:
            await super().aput_writes(config, writes, task_id, task_path)


class _ToItsEnd(AsyncSqliteSaver):
    """A save goes on to its end when its caller is cancelled.

    Cancelled half way, it would leave its transaction open, and SQLite's write lock taken for
    everybody else, even after it is closed. PostgreSQL's connections roll back.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._saving: set[asyncio.Task[Any]] = set()

    async def ended(self) -> None:
        """Wait for what is being saved: LangGraph does not, where a run was cancelled."""
        await asyncio.sleep(0)  # a save that was only just asked for begins
        while self._saving:
            await asyncio.wait(self._saving)

    async def aput(self, *args: Any, **kwargs: Any) -> RunnableConfig:
        return await self._to_its_end(super().aput(*args, **kwargs))

    async def aput_writes(self, *args: Any, **kwargs: Any) -> None:
        await self._to_its_end(super().aput_writes(*args, **kwargs))

    async def adelete_thread(self, thread_id: str) -> None:
        await self._to_its_end(super().adelete_thread(thread_id))

    async def _to_its_end(self, work: Coroutine[Any, Any, T]) -> T:
        saving = asyncio.create_task(work)
        self._saving.add(saving)
        saving.add_done_callback(self._saving.discard)
        try:
            return await shielded(saving)
        except asyncio.CancelledError:
            await asyncio.wait([saving])
            raise


class _SqliteSaver(_OncePerStep, _ToItsEnd):
    pass


@asynccontextmanager
async def _postgres(url: URL, writer: Patience) -> AsyncGenerator[BaseCheckpointSaver[Any]]:
    with extra("postgres", f"the database {shown(url)!r}"):
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from psycopg.rows import dict_row
        from psycopg_pool import AsyncConnectionPool, PoolTimeout

    class PostgresSaver(_OncePerStep, AsyncPostgresSaver):
        pass

    patience = Patience()

    class Pool(AsyncConnectionPool[Any]):
        async def getconn(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109
            while True:
                try:
                    connection = await super().getconn(timeout)
                except PoolTimeout:
                    patience.fails()
                    if patience.is_over() or writer.is_over():
                        await _reach(url)
                else:
                    patience.answers()
                    return connection

    pool: Any = Pool(
        _conninfo(url),
        min_size=0,  # listing runs needs none
        max_size=1,  # the saver does one thing at a time
        open=False,
        # A lost connection is asked for again and again; of itself the pool would do so ever less.
        timeout=_TRY_SECONDS,
        reconnect_timeout=_TRY_SECONDS / 2,
        # How LangGraph's savers want their connections.
        kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
        check=_is_open,
    )
    async with pool:
        yield PostgresSaver(pool, serde=strict_serializer())


async def _reach(url: URL) -> None:
    """Connect once to a server that the pool did not reach, which does not say why.

    Raises:
        StoreError: it cannot be reached; not what psycopg raises, so that nobody tries again.
    """
    from psycopg import AsyncConnection

    with explained(url):
        reached = await AsyncConnection.connect(_conninfo(url), connect_timeout=int(_TRY_SECONDS))
    await reached.close()


async def _is_open(connection: Any) -> None:
    """Raise what psycopg does where the server has closed the connection: the pool makes another.

    A journey to the server only where it has said something unasked, as it does when it closes.
    """
    try:
        heard, _, _ = select.select([connection.fileno()], [], [], 0)
    except ValueError:  # too many open files for `select`
        heard = [connection]
    if heard:
        await connection.execute("")


def set_up_postgres(engine: Engine) -> None:
    """Make LangGraph's tables where they are missing. Blocks; many processes may do so at once."""
    with extra("postgres", f"the database {shown(engine.url)!r}"):
        from langgraph.checkpoint.postgres import PostgresSaver
    with engine.connect() as connection:
        newest = len(PostgresSaver.MIGRATIONS) - 1
        if connection.scalar(text("SELECT to_regclass('checkpoint_migrations')")) is not None:
            reached = connection.scalar(text("SELECT max(v) FROM checkpoint_migrations"))
            if reached is not None and reached >= newest:
                # LangGraph would still ask for the right to create tables.
                return
        # LangGraph's migrations collide when two processes run them at once.
        address = _conninfo(engine.url)
        with alone(connection), PostgresSaver.from_conn_string(address) as saver:
            saver.setup()


def _conninfo(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)

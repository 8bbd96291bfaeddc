"""Database failures in the words of the person who has to fix them.

Drivers' exceptions come in; `StoreError`s that name the database, the cause and the fix go out.
"""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from tpo_graph.errors import StoreError
from tpo_graph.store.urls import shown

# (part of the driver's message, what it means and what to do), first match wins
_MEANINGS = (
    ("readonly database", "it is read-only. Allow writing to the file and its folder."),
    ("read-only transaction", "the server accepts no writes. Connect to its primary."),
    ("disk is full", "the disk is full. Free some space and resume the run."),
    ("no space left", "the server's disk is full. Free some space and resume the run."),
    ("database is locked", "another process kept it locked. Wait for it, or end it."),
    ("unable to open database file", "it cannot be opened. Check its folder and permissions."),
    ("not a database", "the file is not a SQLite database. Name another file."),
    ("malformed", "the file is damaged. Restore it from a backup, or name another file."),
    ("disk i/o error", "the disk failed to read or write. Check it, and the free space."),
    (
        "password authentication failed",
        "user or password is wrong. Check them in the URL, in PGPASSWORD or in ~/.pgpass.",
    ),
    ("no password supplied", "the server wants a password. Put it in the URL or in PGPASSWORD."),
    ("does not exist", "the server lacks it. Create it, or check the URL."),
    (
        "permission denied for schema",
        "the user has no right to create tables there. Grant CREATE on the schema, or run `tpo db "
        "upgrade` once as a user who has it.",
    ),
    (
        "permission denied",
        "the user has too few rights. Grant SELECT, INSERT, UPDATE and DELETE on all tables of "
        "this schema.",
    ),
    ("name or service not known", "no such host. Check the URL."),
    ("connection refused", "no server answers there. Start it, or check host and port."),
    ("connection failed", "the server cannot be reached. Start it, or check the URL."),
    ("nul (0x00)", "a text holds a zero byte, which no text can. Leave that out."),
    ("foreign key", "it refers to a run that is not stored. Call `begin` first."),
)


def is_passing(error: BaseException) -> bool:
    """Whether waiting may help: a server that restarts, a deadlock that the server broke."""
    cause = getattr(error, "orig", None) or error
    if not type(cause).__module__.startswith("psycopg"):
        return False
    names = {kind.__name__ for kind in type(cause).__mro__}
    return bool(names & {"OperationalError", "PoolTimeout"}) and "DiskFull" not in names


def in_our_words(error: BaseException, url: URL) -> StoreError | None:
    """The `StoreError` to raise from what a database raised; None for anything else."""
    if isinstance(error, UnicodeEncodeError):
        return StoreError(
            f"{error.object[max(0, error.start - 20) : error.end + 20]!r} is no text that a "
            "database can hold: it has half a character. Leave that out."
        )
    of_postgres = type(error).__module__.partition(".")[0] in ("psycopg", "psycopg_pool")
    if not isinstance(error, SQLAlchemyError | sqlite3.Error) and not of_postgres:
        return None
    said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
    if url.password:
        said = said.replace(str(url.password), "***")
    meaning = next((text for part, text in _MEANINGS if part in said.lower()), None)
    detail = f"{meaning} (The database said: {said})" if meaning else said
    return StoreError(f"the database {shown(url)!r} failed: {detail}")


@contextmanager
def explained(url: URL) -> Generator[None]:
    """Turn whatever the database raises inside into a `StoreError`."""
    try:
        yield
    except Exception as e:
        if (told := in_our_words(e, url)) is None:
            raise
        raise told from e

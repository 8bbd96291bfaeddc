"""The output file of a batch: its rows in the order of the input, with what answers them.

A function of the batch's rows in the database, read a page at a time. The file's ending says its
form. It is written beside its place and then moved there, so that it is whole or not there.
"""

import csv
import io
import json
import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from tpo_graph.concurrency.background import run_in_background, sync
from tpo_graph.conversation import well_formed
from tpo_graph.errors import ConfigurationError
from tpo_graph.files.replaced import replaced
from tpo_graph.rows.files import pyarrow_and_parquet
from tpo_graph.session.audit import verdict
from tpo_graph.session.stored import opened
from tpo_graph.store import Store
from tpo_graph.store.answers import RunAnswer, read_answers
from tpo_graph.store.batches import (
    BatchItem,
    StoredBatch,
    batch_pages,
    find_batch,
    get_batch,
    read_batch,
)
from tpo_graph.store.runs import read

RESULTS: tuple[str, ...] = (
    "id",
    "response",
    "reward",
    "iteration",
    "stop_reason",
    "usage",
    "error",
    "run_id",
)
"""What every row of an output has, beside its own columns; with an auditor, "audit" too."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""How a cell begins that spreadsheets calculate; they take the full-width signs for the same."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

Records = Callable[[], AsyncGenerator[dict[str, Any]]]


async def awrite_output(path: str | Path, *, name: str, database: str | Store) -> None:
    """Write the output file of a batch: one record per row of its newest input, in that order.

    Args:
        path: where; .jsonl, .json, .csv and .parquet say the form. An older file is replaced.
        name: of the batch.
        database: a URL, or a store that is open already.

    Raises:
        ConfigurationError: the file has another ending, or cannot be written.
        RunNotFoundError: no such batch is stored.
    """
    write = check_output(path)
    async with opened(database) as store:
        await get_batch(store, name)
        with replaced(path) as file:
            await write(file, lambda: output_rows(store, name))


write_output = sync(awrite_output)
"""Write the output file of a batch and wait for it."""


def check_output(path: str | Path) -> "Writer":
    """Make sure that the output can be written, before anything is paid for.

    Raises:
        ConfigurationError: it has no known ending, or its folder does not exist; a .parquet file
            needs pyarrow.
    """
    place = Path(path)
    writer = _WRITERS.get(place.suffix.lower())
    if writer is None:
        known = ", ".join(_WRITERS)
        raise ConfigurationError(f"the output {str(path)!r} ends in none of {known}")
    if place.is_dir() or not os.access(place.resolve().parent, os.W_OK):
        raise ConfigurationError(
            f"the output {str(path)!r} cannot be written: name a file in a folder that exists and "
            "may be written to."
        )
    if writer is _write_parquet:
        pyarrow_and_parquet(f"the output {str(path)!r}")
    return writer


def prepare_output(path: str | Path, *, name: str, database: str, source: str, fresh: bool) -> None:
    """`check_output`, and make sure that no other file is lost.

    Args:
        source: the input of the batch.
        fresh: whether a file that this batch has not written may be replaced.

    Raises:
        ConfigurationError: the output is the input, or is there already and not this batch's.
        StoreError: the database cannot be opened.
    """
    check_output(path)
    place = Path(path)
    if not place.exists():
        return
    if Path(source).exists() and place.samefile(source):
        raise ConfigurationError(f"the output {str(path)!r} is the input: name another file")

    async def known() -> bool:
        async with opened(database) as store:
            return await find_batch(store, name) is not None

    if not fresh and not run_in_background(known()):
        raise ConfigurationError(
            f"the output {str(path)!r} exists, and this database has no batch {name!r:.200} that "
            "could have written it. Name another file, or let this one be replaced by --fresh."
        )


async def output_rows(store: Store, name: str) -> AsyncGenerator[dict[str, Any]]:
    """The records of a batch's output, in the order of its input; a page in memory at a time.

    A row that has not ended has neither a response nor an error. A row whose run failed after its
    first scoring has both: the best response so far.

    Raises:
        RunNotFoundError: no such batch is stored.
    """
    batch = await get_batch(store, name)
    auditor = batch["launch"]["names"]["audit"]
    renamed = await _renamed(store, name, audited=auditor is not None)
    async with aclosing(batch_pages(store, name)) as pages:
        async for page in pages:
            ids = [item.run_id for item in page if item.run_id is not None]
            answers = await read(store, lambda c, ids=ids: read_answers(c, ids, auditor))
            for item in page:
                answer = answers.get(item.run_id or "", RunAnswer())
                yield _record(batch, item, answer, renamed)


def _record(
    batch: StoredBatch, item: BatchItem, answer: RunAnswer, renamed: Mapping[str, str]
) -> dict[str, Any]:
    ended = item.stop_reason is not None
    best, first = answer.best, answer.first
    audit = None
    auditor = batch["launch"]["names"]["audit"]
    if ended and best is not None and first is not None and auditor is not None:
        scores = answer.audit.get(first["response"]), answer.audit.get(best["response"])
        if scores[0] is not None and scores[1] is not None:
            fall_back = batch["launch"]["audit_fallback"]
            audit = verdict(auditor, (first, best), (scores[0], scores[1]), fall_back=fall_back)
    given = first if audit is not None and audit.fell_back else best
    # What was scored before a later step failed is paid for: shown beside the error.
    shown = given if ended or item.status == "failed" else None
    record: dict[str, Any] = {
        "id": item.row_id,
        "response": shown and shown["response"],
        "reward": shown and shown["reward"],
        "iteration": shown and shown["iteration"],
        "stop_reason": item.stop_reason,
        "usage": answer.usage or None,
        "error": item.error,
        "run_id": item.stored_run_id,
    }
    if auditor is not None:
        record["audit"] = None if audit is None else asdict(audit)
    return {**record, **{renamed.get(k, k): v for k, v in item.columns.items()}}


async def _renamed(store: Store, name: str, *, audited: bool) -> dict[str, str]:
    """Free names for columns of the input that are called like results, alike in all rows."""
    columns: dict[str, None] = {}
    async with aclosing(read_batch(store, name)) as items:
        async for item in items:
            columns.update(dict.fromkeys(item.columns))
    taken = {*columns, *RESULTS, "audit"}
    renamed: dict[str, str] = {}
    for column in columns:
        if column in RESULTS or (audited and column == "audit"):
            free = f"input_{column}"
            while free in taken:
                free = f"input_{free}"
            taken.add(free)
            renamed[column] = free
    return renamed


async def _write_jsonl(file: IO[bytes], records: Records) -> None:
    async with aclosing(records()) as found:
        async for record in found:
            file.write(_json(record) + b"\n")


async def _write_json(file: IO[bytes], records: Records) -> None:
    before = b"[\n"
    async with aclosing(records()) as found:
        async for record in found:
            file.write(before + _json(record))
            before = b",\n"
    file.write(b"\n]\n" if before == b",\n" else b"[]\n")


async def _write_csv(file: IO[bytes], records: Records) -> None:
    names: dict[str, None] = dict.fromkeys(RESULTS)
    async with aclosing(records()) as found:
        async for record in found:
            names.update(dict.fromkeys(record))
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.DictWriter(text, list(names))
    writer.writerow({name: _cell(name) for name in names})
    async with aclosing(records()) as found:
        async for record in found:
            writer.writerow({name: _cell(value) for name, value in record.items()})
    text.detach()


def _cell(value: Any) -> Any:
    """A value as a CSV cell that no spreadsheet takes for a formula.

    As OWASP advises ("CSV Injection"), a text that begins like one gets an apostrophe before it;
    a text that is a number is no formula.
    """
    if isinstance(value, dict | list):
        return _json(value).decode()
    if not isinstance(value, str):
        return value
    text = well_formed(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def _json(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False)
    for separator in "\x85\u2028\u2029":  # at which some readers would break the line
        text = text.replace(separator, f"\\u{ord(separator):04x}")
    # Half a character, which UTF-8 cannot hold, becomes the escape that JSON has for it.
    return text.encode("utf-8", "backslashreplace")


async def _write_parquet(file: IO[bytes], records: Records) -> None:
    from tpo_graph.batch.parquet import write_parquet

    await write_parquet(file, records)


Writer = Callable[[IO[bytes], Records], Awaitable[None]]
_WRITERS: Mapping[str, Writer] = {
    ".jsonl": _write_jsonl,
    ".json": _write_json,
    ".csv": _write_csv,
    ".parquet": _write_parquet,
}

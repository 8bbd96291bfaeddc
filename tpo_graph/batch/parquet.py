"""Records of one shape or of many as a Parquet file, without holding them all in memory."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import IO, Any

from tpo_graph.conversation import well_formed
from tpo_graph.rows.files import pyarrow_and_parquet

_ROWS = 500
"""Records of one row group."""
_FIXED = {"response": "string", "reward": "double", "iteration": "int64"}
"""Types that do not depend on whether any row has a value."""


async def write_parquet(
    file: IO[bytes], records: Callable[[], AsyncGenerator[dict[str, Any]]]
) -> None:
    """Write what `records()` gives, which is read twice: once for the types, once for the values.

    A column of one type keeps it. `usage`, `audit` and columns whose rows have values of several
    types are JSON texts.
    """
    arrow, library = pyarrow_and_parquet("an output in Parquet")
    types: dict[str, Any] = {}
    async for page in _pages(records):
        for name in dict.fromkeys(name for record in page for name in record):
            values = [record.get(name) for record in page]
            types[name] = _common(arrow, types.get(name, arrow.null()), values, name)
    fields = {
        name: arrow.string() if found in (None, arrow.null()) else found
        for name, found in types.items()
    }
    for name, kind in _FIXED.items():
        fields[name] = getattr(arrow, kind.replace("double", "float64"))()
    schema = arrow.schema(list(fields.items()))
    with library.ParquetWriter(file, schema) as writer:
        async for page in _pages(records):
            columns = {
                name: arrow.array(
                    [_value(record.get(name), types.get(name)) for record in page], type=kind
                )
                for name, kind in fields.items()
            }
            writer.write_table(arrow.table(columns, schema=schema))


def _common(arrow: Any, known: Any, values: list[Any], name: str) -> Any:
    """The type that these values share with those seen before; None: JSON text."""
    kinds: set[Any] = {type(value) for value in values if value is not None}
    if known is None or name in ("usage", "audit") or not (len(kinds) < 2 or kinds == {int, float}):
        return None
    try:
        found = arrow.array([_value(value, known) for value in values]).type
        schemas = [arrow.schema([("x", kind)]) for kind in (known, found)]
        merged = arrow.unify_schemas(schemas, promote_options="permissive").field("x").type
    except (arrow.ArrowException, OverflowError):
        return None
    # Parquet has no objects without fields.
    return None if "struct<>" in str(merged) else merged


def _value(value: Any, kind: Any) -> Any:
    if kind is None and value is not None:
        return json.dumps(value)
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [_value(item, kind) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {key: _value(item, kind) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value


async def _pages(
    records: Callable[[], AsyncGenerator[dict[str, Any]]],
) -> AsyncGenerator[list[dict[str, Any]]]:
    page: list[dict[str, Any]] = []
    async with aclosing(records()) as found:
        async for record in found:
            page.append(record)
            if len(page) == _ROWS:
                yield page
                page = []
    if page:
        yield page

"""What people said of a run's answer: a label and a note, of which there is one per run."""

from collections.abc import Sequence
from typing import Literal, get_args

from sqlalchemy import Connection, Engine, delete, select
from typing_extensions import TypedDict

from tpo_graph.conversation import storable
from tpo_graph.errors import ConfigurationError, RunNotFoundError
from tpo_graph.store.failures import explained
from tpo_graph.store.tables import LabelRow, RunRow, now
from tpo_graph.store.upserts import upsert
from tpo_graph.store.writer import begin_write

Verdict = Literal["good", "bad", ""]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
NOTE_CHARACTERS = 10_000
"""Of a note, at most."""


class Label(TypedDict):
    """What a person said of a run's answer."""

    label: str
    """"good", "bad", or "" for a note alone."""
    note: str


def read_labels(connection: Connection, run_ids: Sequence[str]) -> dict[str, Label]:
    """The labels of those of the runs that have one, by run id."""
    query = select(LabelRow.run_id, LabelRow.label, LabelRow.note)
    rows = connection.execute(query.where(LabelRow.run_id.in_(run_ids)))
    return {row.run_id: Label(label=row.label, note=row.note) for row in rows}


def write_label(engine: Engine, run_id: str, label: str, note: str) -> None:
    """Keep a label and a note, in the place of those before; neither takes them away.

    Raises:
        ConfigurationError: there is no such label, or the note is too long.
        RunNotFoundError: no such run is stored.
        StoreError: the database failed.
    """
    if label not in VERDICTS:
        raise ConfigurationError(f'label={label!r} must be "good", "bad" or ""')
    note = note.replace("\x00", "").strip()  # PostgreSQL stores no zero byte
    if len(note) > NOTE_CHARACTERS:
        raise ConfigurationError(
            f"a note of {len(note):,} characters is too long: write at most {NOTE_CHARACTERS:,}"
        )
    if storable(run_id) != run_id:
        raise RunNotFoundError(f"no run {run_id!r:.200} is stored")
    with explained(engine.url), engine.connect() as connection:
        begin_write(connection)
        if connection.scalar(select(RunRow.run_id).where(RunRow.run_id == run_id)) is None:
            raise RunNotFoundError(f"no run {run_id!r:.200} is stored")
        if label or note:
            row = {"run_id": run_id, "label": label, "note": note, "updated_at": now()}
            upsert(connection, LabelRow, [row], ("label", "note", "updated_at"))
        else:
            connection.execute(delete(LabelRow).where(LabelRow.run_id == run_id))
        connection.commit()

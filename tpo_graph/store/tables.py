"""The tables of tpo_graph, as SQLAlchemy models; `alembic/` migrates a database to them.

Every name starts with `tpo_`, so that they can live beside LangGraph's checkpoint tables, or in a
parent application's database, and be told apart. A text is stored once, in `tpo_candidates`.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, ForeignKeyConstraint, Index, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

PREFIX = "tpo_"
VERSION_TABLE = "tpo_alembic_version"


def now() -> datetime:
    """The time, in UTC and without a zone: what both back ends store and compare alike."""
    return datetime.now(UTC).replace(tzinfo=None)


class Base(DeclarativeBase):
    """Base of the models; constraints are named, so that a migration can drop them by name."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map = {str: Text, dict[str, Any]: JSON, list[dict[str, str]]: JSON}  # noqa: RUF012


class RunRow(Base):
    """One run of the graph: what was asked, of whom, with which settings, and how it ended."""

    __tablename__ = "tpo_runs"
    __table_args__ = (
        Index(None, "created_at", "run_id"),
        Index(None, "status", "created_at"),
        Index(None, "policy", "created_at"),
        Index(None, "conversation_key"),
    )

    run_id: Mapped[str] = mapped_column(primary_key=True)
    thread_id: Mapped[str | None]
    """LangGraph thread of the run's checkpoints; None when a host graph keeps them elsewhere."""
    status: Mapped[str]
    """"running" until `select` gives a stop reason, then "finished"; "failed" after an error,
    "interrupted" after a clean stop. A killed process leaves "running" and a stale lease."""
    stop_reason: Mapped[str | None]
    """What `select` said when it ended the run; "failed" after an error of a later step than the
    first selection: the run has an answer then, too."""
    error: Mapped[str | None]
    """One line about the failure, when `status` is "failed"."""
    created_at: Mapped[datetime]
    """UTC."""
    updated_at: Mapped[datetime]
    """UTC; the last write of any node."""
    conversation: Mapped[list[dict[str, str]]]
    """The turns (role, content) that were answered."""
    conversation_key: Mapped[str]
    """Digest of `conversation`: with a candidate's `response_key`, the key of `tpo_rewards`."""
    settings: Mapped[dict[str, Any]]
    """The run's `TPOContext`."""
    policy: Mapped[str]
    critic: Mapped[str]
    reward_model: Mapped[str]
    prompts: Mapped[str]
    """Name and digest of the prompt set."""
    launch: Mapped[dict[str, Any] | None]
    """The names that `optimize` was given for model, critic, reward_model and prompts, to load them
    again; None for one that was an object, and for runs inside a host graph."""
    lease_owner: Mapped[str | None]
    """The process that works on the run (host, process id, a random part); None when nobody."""
    lease_seen_at: Mapped[datetime | None]
    """UTC; the owner's last heartbeat. An old one means that the owner died."""


class CandidateRow(Base):
    """One scored response of a run: an entry of the cache C."""

    __tablename__ = "tpo_candidates"

    run_id: Mapped[str] = mapped_column(
        ForeignKey("tpo_runs.run_id", ondelete="CASCADE"), primary_key=True
    )
    iteration: Mapped[int] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    reward: Mapped[float]
    """By the run's own reward model; other models' rewards are in `tpo_rewards`."""
    response: Mapped[str]
    response_key: Mapped[str]
    """Digest of `response`."""
    finish_reason: Mapped[str | None]
    """Why the reply ended: "stop", "length" (cut by the token limit), or the provider's word."""
    reason: Mapped[str | None]
    """What the reward model said about the response, in words, if it says anything."""


class UnusableRow(Base):
    """A reply that was paid for and is no candidate."""

    __tablename__ = "tpo_unusable"

    run_id: Mapped[str] = mapped_column(
        ForeignKey("tpo_runs.run_id", ondelete="CASCADE"), primary_key=True
    )
    iteration: Mapped[int] = mapped_column(primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    """Name of the node that could not use it."""
    position: Mapped[int] = mapped_column(primary_key=True)
    """Index among the node's unusable replies, from 0."""
    text: Mapped[str]
    """All that the model wrote."""
    why: Mapped[str]
    """"empty", "no tag" or "cut" (`models.replies`); from `reward_score`, why it has no reward."""


class StepRow(Base):
    """What one iteration compared and what the critic wrote; texts of candidates by reference."""

    __tablename__ = "tpo_steps"
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "chosen_iteration", "chosen_position"],
            ["tpo_candidates.run_id", "tpo_candidates.iteration", "tpo_candidates.position"],
            ondelete="CASCADE",
        ),
        ForeignKeyConstraint(
            ["run_id", "rejected_iteration", "rejected_position"],
            ["tpo_candidates.run_id", "tpo_candidates.iteration", "tpo_candidates.position"],
            ondelete="CASCADE",
        ),
    )

    run_id: Mapped[str] = mapped_column(
        ForeignKey("tpo_runs.run_id", ondelete="CASCADE"), primary_key=True
    )
    iteration: Mapped[int] = mapped_column(primary_key=True)
    chosen_iteration: Mapped[int | None]
    chosen_position: Mapped[int | None]
    rejected_iteration: Mapped[int | None]
    rejected_position: Mapped[int | None]
    loss: Mapped[str | None]
    gradient: Mapped[str | None]


class RewardRow(Base):
    """The score cache: a reward model never scores the same response to the same query twice."""

    __tablename__ = "tpo_rewards"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012

    conversation_key: Mapped[str] = mapped_column(primary_key=True)
    response_key: Mapped[str] = mapped_column(primary_key=True)
    reward_model: Mapped[str] = mapped_column(primary_key=True)
    """`RewardModel.name`: everything that decides a score."""
    reward: Mapped[float]
    reason: Mapped[str | None]
    """As in `tpo_candidates`."""
    created_at: Mapped[datetime]
    """UTC; `tpo runs prune` deletes by it."""


class UsageRow(Base):
    """What one node consumed in one iteration (`tpo_graph.usage.Usage`)."""

    __tablename__ = "tpo_usage"

    run_id: Mapped[str] = mapped_column(
        ForeignKey("tpo_runs.run_id", ondelete="CASCADE"), primary_key=True
    )
    iteration: Mapped[int] = mapped_column(primary_key=True)
    stage: Mapped[str] = mapped_column(primary_key=True)
    """Name of the node."""
    requests: Mapped[int]
    prompt_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    unusable: Mapped[int]
    truncated: Mapped[int]
    score_cache_hits: Mapped[int]
    seconds: Mapped[float]


class LabelRow(Base):
    """What people said of a run's answer."""

    __tablename__ = "tpo_labels"

    run_id: Mapped[str] = mapped_column(
        ForeignKey("tpo_runs.run_id", ondelete="CASCADE"), primary_key=True
    )
    label: Mapped[str]
    """"good", "bad", or "" for a note alone."""
    note: Mapped[str]
    updated_at: Mapped[datetime]
    """UTC."""


class BatchRow(Base):
    """One batch (`tpo batch`): what all of its rows have in common."""

    __tablename__ = "tpo_batches"

    name: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime]
    """UTC."""
    updated_at: Mapped[datetime]
    """UTC; the last call that worked on it."""
    settings: Mapped[dict[str, Any]]
    """The `TPOContext` of rows that set nothing of their own."""
    launch: Mapped[dict[str, Any]]
    """What the batch was given for model, critic, reward_model, prompts, audit and audit_fallback
    (None for an object), and under "names" what identifies those that this process loaded."""
    source: Mapped[str | None]
    """Where the rows came from, in the caller's words."""
    lease_owner: Mapped[str | None]
    """As in `tpo_runs`."""
    lease_seen_at: Mapped[datetime | None]


class BatchItemRow(Base):
    """One row of a batch's input, and the run that answers it."""

    __tablename__ = "tpo_batch_rows"
    __table_args__ = (Index(None, "batch", "position"), Index(None, "run_id"))

    batch: Mapped[str] = mapped_column(
        ForeignKey("tpo_batches.name", ondelete="CASCADE"), primary_key=True
    )
    row_id: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int | None]
    """Its place in the newest input; None when that one lacks it."""
    run_id: Mapped[str | None]
    """Its run, named before it starts, so in `tpo_runs` or not yet; None for a row that cannot be
    answered."""
    error: Mapped[str | None]
    """Why it failed, in one line."""
    conversation: Mapped[list[dict[str, str]] | None]
    """The turns to answer; None for a row that cannot be answered."""
    settings: Mapped[dict[str, Any]]
    """Its own `depth`, `width` and `criteria`, if it has any."""
    columns: Mapped[dict[str, Any]]
    """All columns of the input but the id."""

"""The five tables: runs, candidates, steps, rewards, usage."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "tpo_runs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("thread_id", sa.Text()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("stop_reason", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.Column("conversation", sa.JSON(), nullable=False),
        sa.Column("conversation_key", sa.Text(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("critic", sa.Text(), nullable=False),
        sa.Column("reward_model", sa.Text(), nullable=False),
        sa.Column("prompts", sa.Text(), nullable=False),
        sa.Column("launch", sa.JSON()),
        sa.Column("lease_owner", sa.Text()),
        sa.Column("lease_seen_at", sa.DateTime()),
        sa.PrimaryKeyConstraint("run_id", name="pk_tpo_runs"),
    )
    for columns in (
        ["created_at", "run_id"],
        ["status", "created_at"],
        ["policy", "created_at"],
        ["conversation_key"],
    ):
        op.create_index(f"ix_tpo_runs_{'_'.join(columns)}", "tpo_runs", columns)

    op.create_table(
        "tpo_candidates",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("reward", sa.Double(), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.Column("response_key", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "iteration", "position", name="pk_tpo_candidates"),
        _of_run("tpo_candidates"),
    )
    op.create_table(
        "tpo_steps",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", sa.Integer(), nullable=False),
        sa.Column("chosen_iteration", sa.Integer()),
        sa.Column("chosen_position", sa.Integer()),
        sa.Column("rejected_iteration", sa.Integer()),
        sa.Column("rejected_position", sa.Integer()),
        sa.Column("loss", sa.Text()),
        sa.Column("gradient", sa.Text()),
        sa.PrimaryKeyConstraint("run_id", "iteration", name="pk_tpo_steps"),
        _of_run("tpo_steps"),
        _of_candidate("chosen"),
        _of_candidate("rejected"),
    )
    op.create_table(
        "tpo_rewards",
        sa.Column("conversation_key", sa.Text(), nullable=False),
        sa.Column("response_key", sa.Text(), nullable=False),
        sa.Column("reward_model", sa.Text(), nullable=False),
        sa.Column("reward", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint(
            "conversation_key", "response_key", "reward_model", name="pk_tpo_rewards"
        ),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "tpo_usage",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("unusable", sa.Integer(), nullable=False),
        sa.Column("truncated", sa.Integer(), nullable=False),
        sa.Column("score_cache_hits", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "iteration", "stage", name="pk_tpo_usage"),
        _of_run("tpo_usage"),
    )


def downgrade() -> None:
    """Drop them, and every row."""
    for table in ("tpo_usage", "tpo_rewards", "tpo_steps", "tpo_candidates", "tpo_runs"):
        op.drop_table(table)


def _of_run(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["run_id"], ["tpo_runs.run_id"], name=f"fk_{table}_run_id", ondelete="CASCADE"
    )


def _of_candidate(role: str) -> sa.ForeignKeyConstraint:
    columns = ["run_id", f"{role}_iteration", f"{role}_position"]
    return sa.ForeignKeyConstraint(
        columns,
        [f"tpo_candidates.{name}" for name in ("run_id", "iteration", "position")],
        name=f"fk_tpo_steps_{'_'.join(columns)}",
        ondelete="CASCADE",
    )

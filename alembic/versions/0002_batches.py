"""Batches and their rows."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "tpo_batches",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("launch", sa.JSON(), nullable=False),
        sa.Column("source", sa.Text()),
        sa.Column("lease_owner", sa.Text()),
        sa.Column("lease_seen_at", sa.DateTime()),
        sa.PrimaryKeyConstraint("name", name="pk_tpo_batches"),
    )
    op.create_table(
        "tpo_batch_rows",
        sa.Column("batch", sa.Text(), nullable=False),
        sa.Column("row_id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer()),
        sa.Column("run_id", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.Column("conversation", sa.JSON()),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("columns", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("batch", "row_id", name="pk_tpo_batch_rows"),
        sa.ForeignKeyConstraint(
            ["batch"], ["tpo_batches.name"], name="fk_tpo_batch_rows_batch", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_tpo_batch_rows_batch_position", "tpo_batch_rows", ["batch", "position"])
    op.create_index("ix_tpo_batch_rows_run_id", "tpo_batch_rows", ["run_id"])


def downgrade() -> None:
    """Drop them, and every row."""
    op.drop_table("tpo_batch_rows")
    op.drop_table("tpo_batches")

"""How each reply ended, what was said of it, and the replies that held no text."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table."""
    op.add_column("tpo_candidates", sa.Column("finish_reason", sa.Text()))
    op.add_column("tpo_candidates", sa.Column("reason", sa.Text()))
    op.add_column("tpo_rewards", sa.Column("reason", sa.Text()))
    op.create_table(
        "tpo_unusable",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("iteration", sa.Integer(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", "iteration", "stage", "position", name="pk_tpo_unusable"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["tpo_runs.run_id"], name="fk_tpo_unusable_run_id", ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    """Drop them, and what they hold."""
    op.drop_table("tpo_unusable")
    op.drop_column("tpo_rewards", "reason")
    op.drop_column("tpo_candidates", "reason")
    op.drop_column("tpo_candidates", "finish_reason")

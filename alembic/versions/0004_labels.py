"""What people said of a run's answer."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "tpo_labels",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_tpo_labels"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["tpo_runs.run_id"], name="fk_tpo_labels_run_id", ondelete="CASCADE"
        ),
    )


def downgrade() -> None:
    """Drop it, and what it holds."""
    op.drop_table("tpo_labels")

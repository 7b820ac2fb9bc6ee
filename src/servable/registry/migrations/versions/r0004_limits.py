"""Limits of API keys, and what was taken out of their quotas."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column and the table."""
    op.add_column("keys", sa.Column("limits", sa.JSON, nullable=False, server_default="{}"))
    op.create_table(
        "quota_use",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("taken", sa.BigInteger, nullable=False),
    )

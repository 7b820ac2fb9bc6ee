"""The shares that live servers hold of callers' limits."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "limit_shares",
        sa.Column("account", sa.String(128), primary_key=True),
        sa.Column("server", sa.String(32), primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("at_once", sa.BigInteger, nullable=False),
        sa.Column("busy", sa.BigInteger, nullable=False),
        sa.Column("asked", sa.Float, nullable=False),
        sa.Column("debt", sa.Float, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )

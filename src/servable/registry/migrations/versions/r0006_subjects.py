"""Data keys of the subjects of captured rows, and who was erased."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "subject_keys",
        sa.Column("subject", sa.String(32), primary_key=True),
        sa.Column("key", sa.String(160), nullable=False),
        sa.Column("used_on", sa.String(10), nullable=False),
    )
    op.create_table(
        "erasures",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("subject", sa.String(32), nullable=False, unique=True),
        sa.Column("at", sa.BigInteger, nullable=False),
    )

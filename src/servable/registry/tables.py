"""The tables of the registry as the code of today uses them; ``migrations`` brings a database there.

``changes`` has one row. Every transaction that writes raises its number first: this makes writers take
turns on every database, so that a version number is never given twice, and tells readers that
something changed.
"""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

from servable.registry.records import HEAD

__all__ = ["HEAD", "aliases", "changes", "deployments", "metadata", "models", "revisions", "versions"]

metadata = MetaData()

changes = Table(
    "changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("created_at", String(32), nullable=False),
    # The last number given, which never goes back, so that a number is never used twice.
    Column("last_version", Integer, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    Column("model", String(128), ForeignKey("models.name"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("package", String(64), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("framework", String(64), nullable=False),
    Column("task", String(32), nullable=False),
    Column("serving", String(128), nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("note", Text, nullable=False),
)

revisions = Table(
    "revisions",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    Column("package", String(64), nullable=False),
    Column("serving", String(128), nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
)

aliases = Table(
    "aliases",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("alias", String(128), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("since", String(32), nullable=False),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
)

deployments = Table(
    "deployments",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("previous", JSON, nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("since", String(32), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("policy", JSON, nullable=False),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
)

"""The tables of the registry as the code of today uses them; ``migrations`` brings a database there.

``changes`` has one row. Every transaction that writes raises its number first: this makes writers take
turns on every database, so that a version number is never given twice, and tells readers that
something changed.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

from servable.registry.records import HEAD

__all__ = [
    "HEAD",
    "aliases",
    "audit",
    "audit_checkpoints",
    "changes",
    "deployments",
    "erasures",
    "evidence",
    "findings",
    "keys",
    "leases",
    "limit_shares",
    "metadata",
    "models",
    "quota_use",
    "revisions",
    "rollouts",
    "subject_keys",
    "turns",
    "versions",
]

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
    Column("traffic", JSON, nullable=False, default=dict),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.version"]),
)

# A change of versions in steps, or a comparison; at most one of a model has no ``ended_at``.
rollouts = Table(
    "rollouts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", String(128), ForeignKey("models.name"), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("champion", Integer, nullable=False),
    Column("challenger", Integer, nullable=False),
    Column("state", String(32), nullable=False),
    Column("started_at", String(32), nullable=False),
    Column("ended_at", String(32), nullable=False),
    Column("record", JSON, nullable=False),
)

# What one server process group counted for one version while a rollout goes on; sums over servers are formed
# by whoever reads. Rows are replaced whole, so that one written twice counts once.
evidence = Table(
    "evidence",
    metadata,
    Column("rollout", Integer, primary_key=True, autoincrement=False),
    Column("server", String(64), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("updated_at", String(32), nullable=False),
    Column("counts", JSON, nullable=False),
)

# Who may act alone for a while, such as the one that follows rollouts, or updates a model.
leases = Table(
    "leases",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("until", Float, nullable=False),
)

# Turns of the loop that makes the next version of a model.
turns = Table(
    "turns",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("model", String(128), ForeignKey("models.name"), nullable=False),
    Column("state", String(32), nullable=False),
    Column("step", String(32), nullable=False),
    Column("started_at", String(32), nullable=False),
    Column("ended_at", String(32), nullable=False),
    Column("record", JSON, nullable=False),
)

# The newest of what is known of a served version, by kind: live quality, drift, ...
findings = Table(
    "findings",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(32), primary_key=True),
    Column("updated_at", String(32), nullable=False),
    Column("value", JSON, nullable=False),
)

# API keys; of a secret only its keyed hash.
keys = Table(
    "keys",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("name", String(128), nullable=False),
    Column("salt", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("created_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("revoked_at", String(32), nullable=False),
    Column("limits", JSON, nullable=False, default=dict, server_default="{}"),
)

# How many requests of a day servers have taken out of the quota of a key's name.
quota_use = Table(
    "quota_use",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("taken", BigInteger, nullable=False),
)

# What live servers hold of the limits of callers that they answer; nobody's row is the turn to change it.
limit_shares = Table(
    "limit_shares",
    metadata,
    Column("account", String(128), primary_key=True),
    Column("server", String(32), primary_key=True),
    # The share of a rate's window, and of requests at once.
    Column("requests", BigInteger, nullable=False),
    Column("at_once", BigInteger, nullable=False),
    # Requests that are being answered there.
    Column("busy", BigInteger, nullable=False),
    # How much the caller asks there, and the part of the window that is used up.
    Column("asked", Float, nullable=False),
    Column("debt", Float, nullable=False),
    Column("until", Float, nullable=False),
)

# The audit log: records in their canonical form, each with the hash of it and all before it.
audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("record", Text, nullable=False),
    Column("hash", String(64), nullable=False),
)

# Signed statements of how many records there were and what the last hash was.
audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("size", Integer, nullable=False),
    Column("note", Text, nullable=False),
)

# Data keys of the subjects of captured rows, wrapped and in hexadecimal; a subject is named by a keyed hash.
subject_keys = Table(
    "subject_keys",
    metadata,
    Column("subject", String(32), primary_key=True),
    Column("key", String(160), nullable=False),
    # The last day on which something was sealed under it.
    Column("used_on", String(10), nullable=False),
)

# Who was erased, and when in microseconds since 1970: what was taken until then must not be kept.
erasures = Table(
    "erasures",
    metadata,
    # Grows with every erasure, so that whoever remembers something learns of it.
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("subject", String(32), nullable=False, unique=True),
    Column("at", BigInteger, nullable=False),
)

"""What a server reads of the registry, again and again: desired state, and nothing else.

A home's SQLite file is read with the standard library alone. SQLAlchemy takes half a second to import,
which is half of the time that a server has to become ready, and 25 MB that it never needs again
(``docs/decisions/0009-serving-reads-sqlite.md``). Any other database is read through ``Home``.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import msgspec

from servable.errors import StorageFailed
from servable.registry.failures import BUSY_SECONDS, database_error
from servable.registry.records import DATABASE, HEAD, WHOLE, Traffic
from servable.registry.references import Reference

_DEPLOYMENTS = """
SELECT d.model, d.version, v.package, d.is_default, d.policy, d.traffic
FROM deployments d JOIN versions v ON v.model = d.model AND v.version = d.version
ORDER BY d.model
"""
_ERASURES = "SELECT coalesce(max(number), 0) FROM erasures"
_PACKAGES = "SELECT version, package FROM versions WHERE model = ?"
_RESOLVE = {
    "version": "SELECT version, package FROM versions WHERE model = ? AND version = ?",
    "alias": (
        "SELECT v.version, v.package FROM versions v JOIN aliases a "
        "ON a.model = v.model AND a.version = v.version WHERE v.model = ? AND a.alias = ?"
    ),
    "newest": (
        "SELECT version, package FROM versions WHERE model = ? AND ? = '' ORDER BY version DESC LIMIT 1"
    ),
}


class Desired(NamedTuple):
    """What is to be served of one model.

    Attributes:
        model: the name.
        version: the number; while requests are divided, of the version that answers whatever no other has
            a share of.
        package: digest of its package.
        default: whether ``POST /predict`` means it.
        policy: the deployment's, as it is stored; empty for a version that is not deployed.
        traffic: how requests are divided.
        packages: the digests of all versions in ``traffic``, by version; empty when it is whole.
    """

    model: str
    version: int
    package: str
    default: bool
    policy: Mapping[str, Any] = MappingProxyType({})
    traffic: Traffic = WHOLE
    packages: Mapping[int, str] = MappingProxyType({})


class Reader(Protocol):
    """Reads desired state. Not safe for concurrent calls."""

    def token(self) -> int:
        """A number that differs after any change by anybody."""
        ...

    def deployments(self) -> tuple[Desired, ...]:
        """Every deployment, by model."""
        ...

    def aliases(self) -> dict[str, dict[str, int]]:
        """Alias to version, by model."""
        ...

    def erasures(self) -> int:
        """A number that grows when somebody is erased; 0 while nobody was."""
        ...

    def resolve(self, reference: Reference) -> Desired:
        """The version that a reference means, deployed or not.

        Raises:
            ModelNotFound: there is no such model.
            VersionNotFound: it has no such version or alias.
        """
        ...

    def close(self) -> None:
        """Give back the connection."""
        ...


def open_reader(home: Path, *, database_url: str = "", create: bool = True) -> Reader:
    """Open a home for reading what is to be served.

    Args:
        home: the folder.
        database_url: where the database is, if not in the folder.
        create: whether a home may be made where there is none.

    Raises:
        FileMissing: there is no home and none may be made.
        StorageFailed: the database cannot be read.
    """
    if not database_url:
        bring_up_to_date(home, create=create)
        return SqliteReader(home)
    return HomeReader(home, database_url, create)


def bring_up_to_date(home: Path, *, create: bool) -> None:
    """See to it that the SQLite file of a home has today's form.

    Args:
        home: the folder.
        create: whether a home may be made where there is none.

    Raises:
        FileMissing: there is no home and none may be made.
        StorageFailed: the database cannot be read or written.
    """
    if not _is_current(home / DATABASE):
        _made_current(home, create)


class SqliteReader:
    """Reads a home's SQLite file. Readers never wait for writers, because the file is in WAL mode."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file = home / DATABASE
        with _database_errors(self._file):
            self._connection = _connected(self._file)

    def token(self) -> int:
        """The number that every writer raises."""
        with _database_errors(self._file):
            return int(self._connection.execute("SELECT number FROM changes").fetchone()[0])

    def deployments(self) -> tuple[Desired, ...]:
        """Every deployment, by model."""
        with _database_errors(self._file):
            rows = self._connection.execute(_DEPLOYMENTS).fetchall()
        found = []
        for model, version, package, marked, policy, stored in rows:
            traffic = _traffic(model, stored)
            packages = self._packages(model, traffic) if traffic.versions else {}
            default = bool(marked) or len(rows) == 1
            found.append(Desired(model, version, package, default, _policy(model, policy), traffic, packages))
        return tuple(found)

    def _packages(self, model: str, traffic: Traffic) -> dict[int, str]:
        with _database_errors(self._file):
            rows = self._connection.execute(_PACKAGES, (model,)).fetchall()
        return {version: package for version, package in rows if version in traffic.versions}

    def aliases(self) -> dict[str, dict[str, int]]:
        """Alias to version, by model."""
        found: dict[str, dict[str, int]] = {}
        with _database_errors(self._file):
            for model, alias, version in self._connection.execute(
                "SELECT model, alias, version FROM aliases"
            ):
                found.setdefault(model, {})[alias] = version
        return found

    def erasures(self) -> int:
        """See ``Reader``."""
        with _database_errors(self._file):
            return int(self._connection.execute(_ERASURES).fetchone()[0])

    def resolve(self, reference: Reference) -> Desired:
        """The version that a reference means; what does not exist is said as ``Models.resolve`` says it."""
        key, value = "newest", ""
        if reference.version is not None:
            key, value = "version", str(reference.version)
        elif reference.alias is not None:
            key, value = "alias", reference.alias
        with _database_errors(self._file):
            row = self._connection.execute(_RESOLVE[key], (reference.model, value)).fetchone()
        if row is not None:
            return Desired(reference.model, row[0], row[1], False)
        other = HomeReader(self._home, "", create=False)
        try:
            return other.resolve(reference)
        finally:
            other.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class HomeReader:
    """Reads any database through an open home."""

    def __init__(self, home: Path, database_url: str, create: bool) -> None:
        # Lazily: they bring SQLAlchemy, see above.
        from servable.registry.home import open_home
        from servable.registry.listening import ChangeToken

        self._home = open_home(home, create=create, database_url=database_url or None)
        self._token = ChangeToken(self._home.state)

    def token(self) -> int:
        """The registry's change token."""
        return self._token.read()

    def deployments(self) -> tuple[Desired, ...]:
        """Every deployment, by model."""
        found = []
        for record in self._home.deployments.all():
            named = record.traffic.versions
            versions = self._home.models.versions(record.model) if named else ()
            packages = {each.version: each.package for each in versions if each.version in named}
            found.append(
                Desired(
                    record.model, record.version, record.package, record.default, record.policy,
                    record.traffic, packages,
                )
            )  # fmt: skip
        return tuple(found)

    def aliases(self) -> dict[str, dict[str, int]]:
        """Alias to version, by model."""
        return {model.name: model.aliases for model in self._home.models.all()}

    def erasures(self) -> int:
        """See ``Reader``."""
        return int(self._home.subjects.stamp() or 0)

    def resolve(self, reference: Reference) -> Desired:
        """The version that a reference means."""
        record = self._home.models.resolve(reference)
        return Desired(record.model, record.version, record.package, False)

    def close(self) -> None:
        """Close the home."""
        self._token.close()
        self._home.close()


def _policy(model: str, stored: str) -> dict[str, Any]:
    """A stored policy.

    Raises:
        StorageFailed: the database holds something that nobody stored there.
    """
    if stored == "{}":
        return {}
    try:
        return msgspec.json.decode(stored, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise StorageFailed(f"The registry holds a damaged policy of {model}: {error}.") from error


def _traffic(model: str, stored: str) -> Traffic:
    """A stored division.

    Raises:
        StorageFailed: the database holds something that nobody stored there.
    """
    if stored == "{}":
        return WHOLE
    try:
        return msgspec.json.decode(stored, type=Traffic)
    except msgspec.MsgspecError as error:
        raise StorageFailed(f"The registry holds a damaged division of {model}: {error}.") from error


def _is_current(file: Path) -> bool:
    """Whether the file is a registry in today's form; False when anything about it is unusual."""
    if not file.is_file():
        return False
    try:
        connection = _connected(file)
        try:
            return bool(connection.execute("SELECT version_num FROM alembic_version").fetchone() == (HEAD,))
        finally:
            connection.close()
    except sqlite3.Error:
        # ``open_home`` looks again and says what is wrong.
        return False


def _made_current(home: Path, create: bool) -> None:
    """Make the registry, or bring it to today's form."""
    from servable.registry.home import open_home  # Lazily: needed once in the life of a home.

    open_home(home, create=create).close()


def _connected(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


@contextmanager
def _database_errors(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise database_error(error, str(file)) from error

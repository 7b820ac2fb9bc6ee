"""The registry's database: SQLite beside the packages, or PostgreSQL by a URL.

Reading and writing are two context managers; what runs inside is portable SQLAlchemy Core. Writers
take turns (see ``tables``). On SQLite the database is in WAL mode with ``synchronous=FULL``, read back
on every connection, because anything less may forget what was acknowledged when the power fails.
"""

import fcntl
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, select, text, update
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from servable.artifact.files import storage_errors
from servable.errors import DependencyMissing, SettingInvalid, StorageFailed
from servable.registry import tables
from servable.registry.failures import BUSY_SECONDS, database_error, sqlite_errors

#: What SQLite must answer on every connection, after it was asked for it.
PRAGMAS: Mapping[str, tuple[str, Any]] = {
    "journal_mode": ("WAL", "wal"),
    "synchronous": ("FULL", 2),
    "foreign_keys": ("ON", 1),
    # What is deleted is overwritten, so that no free page holds the key of somebody who was erased.
    "secure_delete": ("ON", 1),
}


#: On which PostgreSQL tells of changes.
_CHANNEL = "servable_changes"


class State:
    """An open database. Safe to share between threads; each transaction has a connection of its own."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._name = name

    def __repr__(self) -> str:
        return f"State({self._name})"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one moment and changes nothing.

        Raises:
            StorageFailed: the database cannot be read.
        """
        with database_errors(self._name), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction in which nobody else writes; committed and durable when the block ends.

        An exception in the block, or a failure to commit, leaves everything as it was.

        Raises:
            StorageFull: no space left.
            StorageFailed: the database cannot be written, or its turn did not come in ``BUSY_SECONDS``.
        """
        with self.turn() as connection:
            number = tables.changes.c.number
            connection.execute(update(tables.changes).values(number=number + 1))
            if connection.dialect.name == "postgresql":
                # Delivered when this is committed, and not at all when it is not.
                connection.execute(text(f"NOTIFY {_CHANNEL}"))
            yield connection

    @contextmanager
    def turn(self) -> Iterator[Connection]:
        """A transaction in which nobody else writes and that itself changes nothing; works on a full disk.

        Raises:
            StorageFailed: the database cannot be locked, or its turn did not come in ``BUSY_SECONDS``.
        """
        with database_errors(self._name), self._engine.connect() as connection:
            connection = connection.execution_options(servable_writes=True)
            with connection.begin():
                if connection.dialect.name == "postgresql":
                    connection.execute(select(tables.changes.c.number).with_for_update())
                yield connection

    @contextmanager
    def aside(self) -> Iterator[Connection]:
        """A transaction that writes what no server follows; the change token stays, so none has to look.

        Raises:
            StorageFull: no space left.
            StorageFailed: the database cannot be written, or its turn did not come in ``BUSY_SECONDS``.
        """
        with database_errors(self._name), self._engine.connect() as connection:
            connection = connection.execution_options(servable_writes=True)
            with connection.begin():
                yield connection

    def change_token(self) -> int:
        """A number that differs after any change by anybody. Cheap enough to ask several times a second.

        Raises:
            StorageFailed: the database cannot be read.
        """
        with self.reading() as connection:
            return current_change(connection)

    def scrub(self) -> bool:
        """See to it that nothing deleted is left in the files of the database: free pages, write-ahead log.

        PostgreSQL keeps deleted rows until it vacuums the table, which it does here as well; its write-ahead
        log and archives are its administrator's.

        Returns:
            Whether it was done; a reader that stays may hinder it, and then it is to be tried again.

        Raises:
            StorageFull: no space left for the copy that this makes.
            StorageFailed: the database does not answer.
        """
        with database_errors(self._name):
            if self._engine.dialect.name == "postgresql":
                autocommit = self._engine.execution_options(isolation_level="AUTOCOMMIT")
                with autocommit.connect() as connection:
                    connection.execute(text("VACUUM FULL subject_keys"))
                return True
            # Through the driver, because neither may stand in a transaction.
            pooled = self._engine.raw_connection()
            try:
                driver: Any = pooled.driver_connection
                driver.execute("VACUUM")
                return not driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            finally:
                pooled.close()

    @property
    def tells(self) -> bool:
        """Whether those who listen are told of changes."""
        return self._engine.dialect.name == "postgresql" and self._engine.dialect.driver == "psycopg"

    def listen(self) -> Any:
        """A connection of the driver's own that is told of every change from now on; whoever asks closes it.

        Raises:
            StorageFailed: the database cannot be reached.
        """
        dialect = self._engine.dialect
        positional, named = dialect.create_connect_args(self._engine.url)
        try:
            # Outside of the pool, which would take it back at the end of a transaction.
            connection: Any = dialect.connect(*positional, autocommit=True, **named)
            connection.execute(f"LISTEN {_CHANNEL}")
        except dialect.loaded_dbapi.Error as error:
            raise database_error(error, self._name) from error
        return connection

    def close(self) -> None:
        """Give back all connections."""
        self._engine.dispose()


def current_change(connection: Connection) -> int:
    """The change token as this transaction sees it."""
    return int(connection.execute(select(tables.changes.c.number)).scalar_one())


def open_state(where: str | Path) -> State:
    """Open a database, making its tables or bringing them to today's form when needed.

    Two processes may do this at once.

    Args:
        where: a path means a SQLite file; a text is a database URL.

    Raises:
        SettingInvalid: the URL is none, or names a database that is not supported.
        DependencyMissing: the database's driver is not installed.
        StorageFull: no space left.
        StorageFailed: it cannot be opened, is damaged, or was made by a newer Servable.
    """
    url = URL.create("sqlite", database=str(where)) if isinstance(where, Path) else _parsed(where)
    name = url.render_as_string(hide_password=True)
    engine = _engine(url)
    state = State(engine, url.database or name if url.drivername.startswith("sqlite") else name)
    try:
        with database_errors(state._name):
            _prepare(engine, url)
    except BaseException:
        state.close()
        raise
    return state


@contextmanager
def database_errors(name: str) -> Iterator[None]:
    """Turn the database's exceptions into ``StorageFull`` or ``StorageFailed``.

    Args:
        name: the database as people know it.
    """
    try:
        with sqlite_errors(name):
            yield
    except DBAPIError as error:
        raise database_error(error.orig or error, name) from error


def _parsed(where: str) -> URL:
    try:
        url = make_url(where)
    except ArgumentError as error:
        raise SettingInvalid(
            "The database URL cannot be read; write postgresql+psycopg://user:password@host/name."
        ) from error
    if url.get_backend_name() not in ("sqlite", "postgresql"):
        raise SettingInvalid(
            f"The registry lives in SQLite or PostgreSQL, not in {url.get_backend_name()}; "
            "change the database URL."
        )
    return url


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})
        event.listen(engine, "connect", _sqlite_connected)
        event.listen(engine, "begin", _sqlite_begin)
        return engine
    try:
        return create_engine(url, pool_pre_ping=True)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise DependencyMissing(
            f"The database URL needs a driver that is not installed ({error}); "
            "run: pip install 'servable[postgresql]'"
        ) from error


def _sqlite_connected(connection: Any, record: object) -> None:
    """Set what durability and integrity rest on, and see that it was taken."""
    # The driver would begin transactions by itself and late; with None it leaves that to the event below.
    connection.isolation_level = None
    # Somebody may have written what is no text, into the audit log for instance; its reader tells of it.
    connection.text_factory = lenient_text
    for pragma, (wanted, expected) in PRAGMAS.items():
        got = _pragma(connection, pragma, wanted)
        if got != expected:
            raise StorageFailed(
                f"SQLite keeps {pragma} at {got} where {wanted} is needed, so nothing written would be safe; "
                "put the home on a local disk."
            )


def lenient_text(data: bytes) -> str:
    """What SQLite holds as a text, whether or not it is one."""
    return data.decode("utf-8", "replace")


def _pragma(connection: Any, pragma: str, wanted: str) -> Any:
    """Set a pragma and read it back; the switch to WAL does not wait for its turn by itself."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            got = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
            if got == PRAGMAS[pragma][1]:
                return got
            connection.execute(f"PRAGMA {pragma}={wanted}")
            return connection.execute(f"PRAGMA {pragma}").fetchone()[0]
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _sqlite_begin(connection: Connection) -> None:
    # A writer takes its turn at once: a reader that turns into a writer could find that it read the past.
    writes = connection.get_execution_options().get("servable_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare(engine: Engine, url: URL) -> None:
    path = _file_of(url)
    with storage_errors("opening the database"):
        exists = path is None or path.exists()
    if exists and _revision(engine) == tables.HEAD:
        return
    with _one_at_a_time(path), engine.connect() as connection:
        connection = connection.execution_options(servable_writes=True)
        with connection.begin():
            if path is None and url.get_backend_name() == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(7367262561)"))
            found = _revision_in(connection)
            if found == tables.HEAD:
                return
            # alembic is slow to import and seldom needed.
            from servable.registry import migrations

            if found is not None and not migrations.knows(found):
                raise StorageFailed(
                    f"The database {url.render_as_string(hide_password=True)} was made by a newer servable "
                    f"(revision {found}); install that version or a newer one."
                )
            migrations.upgrade(connection)


def _file_of(url: URL) -> Path | None:
    """The file of a SQLite database; None for any other."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))


@contextmanager
def _one_at_a_time(path: Path | None) -> Iterator[None]:
    """Hold a lock beside a SQLite file, so that one process makes the tables and the others wait."""
    if path is None:
        yield
        return
    with storage_errors("opening the database"):
        file = Path(f"{path}.lock").open("ab")  # noqa: SIM115 - closed below, outside of the conversion
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _revision(engine: Engine) -> str | None:
    with engine.connect() as connection, connection.begin():
        return _revision_in(connection)


def _revision_in(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()

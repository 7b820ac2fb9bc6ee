import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, select, text

from registry.adding import add
from servable.errors import DependencyMissing, ServableError, SettingInvalid, StorageFailed, StorageFull
from servable.registry import migrations, tables
from servable.registry.home import Home, open_home
from servable.registry.state import database_errors, open_state


def test_the_pragmas_that_durability_rests_on(opened: Home) -> None:
    with opened.state.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_the_change_token_moves_with_every_write_and_with_nothing_else(opened: Home) -> None:
    token = opened.change_token()
    add(opened)
    written = opened.change_token()
    assert written != token
    opened.models.all()
    assert opened.change_token() == written
    with open_home(opened.path) as other:
        other.deployments.deploy("churn", 1)
    assert opened.change_token() != written


def test_a_failed_transaction_leaves_nothing(opened: Home) -> None:
    token = opened.change_token()

    def fail() -> None:
        with opened.state.writing() as connection:
            connection.execute(tables.models.insert().values(name="x", created_at="", last_version=1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert opened.change_token() == token
    with opened.state.reading() as connection:
        assert connection.execute(select(tables.models)).all() == []


def test_migrations_make_exactly_the_tables_of_today(tmp_path: Path) -> None:
    def described(path: Path) -> dict[str, object]:
        engine = create_engine(f"sqlite:///{path}")
        look = inspect(engine)

        def columns(name: str) -> list[object]:
            return [
                (c["name"], str(c["type"]), c["nullable"], c["primary_key"]) for c in look.get_columns(name)
            ]

        found = {
            name: (
                [
                    (c["name"], str(c["type"]), c["nullable"], c["primary_key"])
                    for c in look.get_columns(name)
                ],
                look.get_pk_constraint(name)["constrained_columns"],
                sorted((f["constrained_columns"], f["referred_table"]) for f in look.get_foreign_keys(name)),
                look.get_indexes(name),
            )
            for name in look.get_table_names()
            if name != "alembic_version"
        }
        engine.dispose()
        return found

    open_state(tmp_path / "migrated.db").close()
    engine = create_engine(f"sqlite:///{tmp_path / 'made.db'}")
    tables.metadata.create_all(engine)
    engine.dispose()
    assert described(tmp_path / "migrated.db") == described(tmp_path / "made.db")
    assert migrations.newest() == tables.HEAD


def test_opening_an_existing_home_is_light(opened: Home) -> None:
    code = (
        "import sys; from servable.registry.home import open_home;"
        "open_home(sys.argv[1], create=False).close();"
        "heavy = {'alembic', 'sqlalchemy.orm', 'fsspec', 'pandas', 'sklearn', 'onnx'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, opened.path], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_database_of_a_newer_servable(opened: Home) -> None:
    with opened.state.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StorageFailed, match="newer servable"):
        open_home(opened.path)


def test_a_damaged_database(home: Path) -> None:
    home.mkdir()
    (home / "registry.db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(StorageFailed, match="damaged or no database"):
        open_home(home)


def test_a_database_that_is_damaged_inside(opened: Home) -> None:
    for number in range(3):
        add(opened, f"m{number}")
    opened.close()
    data = (opened.path / "registry.db").read_bytes()
    (opened.path / "registry.db").write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))
    with pytest.raises(StorageFailed, match="damaged"), open_home(opened.path) as again:
        again.models.all()


@pytest.mark.parametrize(
    ("url", "error", "word"),
    [
        ("no url", SettingInvalid, "cannot be read"),
        ("mysql://host/db", SettingInvalid, "not in mysql"),
        ("postgresql+psycopg://host/db", DependencyMissing, "driver"),
        ("postgresql+nothing://host/db", DependencyMissing, "driver"),
    ],
)
def test_database_urls_that_cannot_be_used(url: str, error: type[ServableError], word: str) -> None:
    with pytest.raises(error, match=word):
        open_state(url)


def test_a_sqlite_url_is_a_database_too(tmp_path: Path) -> None:
    state = open_state(f"sqlite:///{tmp_path / 'x.db'}")
    assert state.change_token() == 0
    assert "x.db" in repr(state)
    state.close()


def test_a_database_in_memory_forgets_and_is_refused() -> None:
    with pytest.raises(StorageFailed, match="journal_mode"):
        open_state("sqlite://")


@pytest.mark.parametrize(
    ("code", "ours", "word"),
    [
        (sqlite3.SQLITE_FULL, StorageFull, "No space"),
        (sqlite3.SQLITE_CORRUPT, StorageFailed, "damaged"),
        (sqlite3.SQLITE_NOTADB, StorageFailed, "damaged"),
        (sqlite3.SQLITE_BUSY, StorageFailed, "busy"),
        (sqlite3.SQLITE_READONLY, StorageFailed, "cannot be written"),
        (sqlite3.SQLITE_IOERR_FSYNC, StorageFailed, "failed"),
    ],
)
def test_what_sqlite_says_is_said_in_our_words(code: int, ours: type[ServableError], word: str) -> None:
    error = sqlite3.OperationalError("said so")
    error.sqlite_errorcode = code
    with pytest.raises(ours, match=word), database_errors("registry.db"):
        raise error

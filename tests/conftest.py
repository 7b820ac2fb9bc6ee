"""Fixtures for all tests."""

import gc
import logging
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage
from hypothesis import settings

from thoroughness import examples

# An example may take as long as a busy machine lets it: what has to be quick is measured where that is said.
settings.register_profile("servable", max_examples=examples(100), deadline=None)
settings.load_profile("servable")

ROOT = Path(__file__).resolve().parents[1]

#: Where coverage leaves word for processes that tests start: they count their lines when they find it.
COUNT_IN_CHILDREN = "COVERAGE_PROCESS_CONFIG"
#: The folders whose tests run in processes of their own what runs nowhere else.
COUNTED_CHILDREN = ("cli", "engines", "runtime")
#: The folders whose tests ask, load, time and kill the whole from outside; the others go through its parts.
FROM_OUTSIDE = ("docs", "e2e", "examples", "faults")
#: Tests that run the same lines many times, or for long.
REPEATED = ("hypothesis", "slow", "soak")

# One thread per numeric library: the tests run beside each other and measure themselves.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


# What is imported and collected stays to the end, so it is neither looked through meanwhile nor later: that
# is a third of the time of collecting.
gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """From here on garbage is collected, among what the tests make, and that seldom.

    Much is imported only by tests, and every look at all of it again took a fifth of the time of short ones.
    """
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)
    gc.enable()


def folder_of(item: pytest.Item) -> str:
    """The part of the tests that it belongs to."""
    return item.path.relative_to(ROOT / "tests").parts[0]


# Counting lines makes everything take twice as long, so it is done where it says something: by tests that go
# through one part after another, not by what runs the same lines many times or is there to be timed.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Lines are counted neither in properties, nor in what takes long, nor in tests from outside."""
    for item in items:
        if folder_of(item) in FROM_OUTSIDE or any(map(item.get_closest_marker, REPEATED)):
            item.add_marker("no_cover")


# Of several counters in one process the others go on while pytest-cov lets its own pause. A worker would have
# two more: one as a process that was started, and one that pytest-cov begins before it knows where it is.
@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Workers are not processes that tests start."""
    os.environ.pop(COUNT_IN_CHILDREN, None)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """A worker counts once."""
    counter = Coverage.current()
    if counter is not None and hasattr(session.config, "workerinput"):
        counter.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Lines are counted in the processes that a test starts only where they run nowhere else."""
    found = os.environ.get(COUNT_IN_CHILDREN)
    if found is None or folder_of(item) in COUNTED_CHILDREN:
        return (yield)
    del os.environ[COUNT_IN_CHILDREN]
    try:
        return (yield)
    finally:
        os.environ[COUNT_IN_CHILDREN] = found


@pytest.fixture(autouse=True)
def logs_unconfigured() -> None:
    """Log records go to whoever listens, also after a verb of the command line ran in this process."""
    for name in ("servable", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session", autouse=True)
def short_timings() -> Iterator[None]:
    """Forms are timed for a tenth as long: no test asks which of two that are almost as fast is faster."""
    from servable.optimization import measure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "BUDGET", 0.03)
        yield


@pytest.fixture(scope="session", autouse=True)
def tables_made_once() -> Iterator[None]:
    """New SQLite databases get their tables as the migrations made them the first time.

    A thousand tests make a home, and all migrations take ten times as long as the statements that they come
    to. Databases that exist are migrated as ever.
    """
    from servable.registry import migrations

    migrate, statements = migrations.upgrade, list[str]()

    def upgrade(connection: Any) -> None:
        tables = "SELECT count(*) FROM sqlite_master"
        if connection.dialect.name != "sqlite" or connection.exec_driver_sql(tables).scalar_one():
            migrate(connection)
        elif statements:
            for statement in statements:
                connection.exec_driver_sql(statement)
        else:
            migrate(connection)
            dumped = connection.connection.driver_connection.iterdump()
            statements.extend(one for one in dumped if one not in ("BEGIN TRANSACTION;", "COMMIT;"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrations, "upgrade", upgrade)
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: ``SERVABLE_SHARED_DATA``, or ``../shared/data`` beside the checkout."""
    folder = Path(os.environ.get("SERVABLE_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the real data sets are not at {folder}; set SERVABLE_SHARED_DATA to their folder")
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that does not exist yet."""
    return tmp_path / "home"

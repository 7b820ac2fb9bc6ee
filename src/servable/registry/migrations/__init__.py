"""How a registry's database becomes the tables of today; alembic is imported only here.

To change a table: change ``tables.py``, add ``versions/rNNNN_words.py`` whose ``down_revision`` is the
present head, and raise ``tables.HEAD``. A migration must keep every row; a test compares the outcome
with ``tables.metadata`` and migrates a database of each old revision.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def upgrade(connection: Connection) -> None:
    """Bring the database to the newest revision, inside the transaction that the caller has open."""
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def newest() -> str | None:
    """The revision that ``upgrade`` leads to."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def knows(revision: str) -> bool:
    """Whether this code has a migration of that name."""
    return any(
        script.revision == revision for script in ScriptDirectory.from_config(_config()).walk_revisions()
    )

"""The keys of subjects for a server's captures: those of its registry, opened when first needed."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from servable.monitoring.sealing import SubjectState
from servable.settings import ServerSettings

if TYPE_CHECKING:
    from servable.registry.home import Home


class ServerSubjects:
    """See ``monitoring.sealing.SubjectKeys``. Belongs to the thread that writes segments.

    Args:
        settings: name the home and its database.
        declares: whether a live model says whom its rows are about, None for one that is not live here;
            asked in that thread.
    """

    def __init__(self, settings: ServerSettings, declares: Callable[[str], bool | None]) -> None:
        self._settings = settings
        self._declares = declares
        self._home: Home | None = None

    def ensure(self, drafts: Mapping[str, bytes]) -> SubjectState:
        """See ``SubjectKeys``."""
        return self._opened().subjects.ensure(drafts)

    def find(self, subjects: Sequence[str]) -> SubjectState:
        """See ``SubjectKeys``."""
        return self._opened().subjects.find(subjects)

    def declares(self, model: str) -> bool:
        """See ``SubjectKeys``."""
        known = self._declares(model)
        # A journal that an ended server left may be about a model that is served elsewhere.
        return self._opened().subjects.declares(model) if known is None else known

    def stamp(self) -> str:
        """See ``SubjectKeys``."""
        return self._opened().subjects.stamp()

    def close(self) -> None:
        """Give back the database."""
        if self._home is not None:
            self._home.close()

    def _opened(self) -> "Home":
        if self._home is None:
            # Lazily: it brings SQLAlchemy, which a server needs for nothing else.
            from servable.registry.home import open_home

            self._home = open_home(
                Path(self._settings.home), database_url=self._settings.database_url or None
            )
        return self._home

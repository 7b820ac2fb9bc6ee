"""What the registry knows of the served versions beyond this process: live quality, drift and alerts."""

import asyncio
import time
from pathlib import Path

from servable.errors import ServableError
from servable.logs import fields, logger
from servable.monitoring.standing import UNKNOWN, Known, known
from servable.registry.findings_reader import FindingsReader
from servable.settings import ServerSettings

_log = logger("server")
#: Seconds for which what was read counts as new.
_FRESH_S = 5.0


class KnownFindings:
    """What is known of all versions, as somebody found it last. Belongs to one event loop.

    Args:
        settings: which registry.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._reader = FindingsReader(Path(settings.home), settings.database_url)
        self._known = UNKNOWN
        self._read_at = float("-inf")

    async def read(self) -> Known:
        """What is known; at most a few seconds old, or older where the registry cannot be read now."""
        now = time.monotonic()
        if now - self._read_at >= _FRESH_S:
            self._read_at = now
            try:
                self._known = await asyncio.to_thread(known, self._reader.of)
            except ServableError as error:
                _log.warning(
                    "live quality, drift and alerts cannot be read", extra=fields(reason=error.message)
                )
        return self._known

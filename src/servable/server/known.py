"""What the registry knows of the served versions beyond this process: live quality, drift and alerts."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
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

    The registry is read in a thread of its own, so that nobody who asks for the figures of a server waits
    for its busy threads.

    Args:
        settings: which registry.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._reader = FindingsReader(Path(settings.home), settings.database_url)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="servable-findings")
        self._known = UNKNOWN
        self._read_at = float("-inf")

    async def read(self) -> Known:
        """What is known; at most a few seconds old, or older where the registry cannot be read now."""
        now = time.monotonic()
        if now - self._read_at >= _FRESH_S:
            self._read_at = now
            loop = asyncio.get_running_loop()
            try:
                self._known = await loop.run_in_executor(self._thread, known, self._reader.of)
            except ServableError as error:
                _log.warning(
                    "live quality, drift and alerts cannot be read", extra=fields(reason=error.message)
                )
        return self._known

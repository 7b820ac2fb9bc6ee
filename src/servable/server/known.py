"""What the registry knows of the served versions beyond this process: their live quality."""

import asyncio
import time
from pathlib import Path

import msgspec

from servable.errors import ServableError
from servable.logs import fields, logger
from servable.monitoring.quality import Known, VersionQuality
from servable.registry.findings_reader import FindingsReader
from servable.settings import ServerSettings

_log = logger("server")
#: Seconds for which what was read counts as new.
_FRESH_S = 5.0


class KnownQuality:
    """The live quality of all versions, as somebody found it last. Belongs to one event loop.

    Args:
        settings: which registry.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._reader = FindingsReader(Path(settings.home), settings.database_url)
        self._known: tuple[Known, ...] = ()
        self._read_at = float("-inf")

    async def read(self) -> tuple[Known, ...]:
        """What is known; at most a few seconds old, or older where the registry cannot be read now."""
        now = time.monotonic()
        if now - self._read_at >= _FRESH_S:
            self._read_at = now
            try:
                self._known = await asyncio.to_thread(self._from_registry)
            except ServableError as error:
                _log.warning("live quality cannot be read", extra=fields(reason=error.message))
        return self._known

    def _from_registry(self) -> tuple[Known, ...]:
        found = []
        for finding in self._reader.of("quality"):
            try:
                quality = msgspec.convert(finding.value, VersionQuality)
            except msgspec.ValidationError:
                # A newer program wrote it, which shows it as well.
                continue
            found.append(Known(finding.model, finding.version, quality))
        return tuple(found)

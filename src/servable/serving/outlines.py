"""What packages of cold models say about themselves, for the documentation."""

import asyncio
from concurrent.futures import Executor

from servable.artifact.package import Outline
from servable.serving.live import Source, Wanted

#: How many are kept.
_KEPT = 256


class Outlines:
    """Reads outlines once. Belongs to one event loop.

    Args:
        source: reads one.
        thread: where.
    """

    def __init__(self, source: Source, thread: Executor) -> None:
        self._source = source
        self._thread = thread
        self._known: dict[str, Outline] = {}

    async def of(self, wanted: Wanted) -> Outline:
        """What the package of a version says about itself.

        Raises:
            ServableError: it cannot be read.
        """
        known = self._known.get(wanted.digest)
        if known is None:
            loop = asyncio.get_running_loop()
            known = await loop.run_in_executor(self._thread, self._source.outline, wanted)
            if len(self._known) >= _KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[wanted.digest] = known
        return known

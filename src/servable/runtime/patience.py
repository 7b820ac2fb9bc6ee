"""Whether a server waits in place for the answer of a model process, by how that went before. Pure.

To sleep until the answer comes and to be woken takes as long as a small model runs. Where one row is asked
and nothing else is under way, the event loop therefore looks for the answer a few times itself, for less time
than a model may hold it that runs in the loop.
"""

#: Seconds that the loop waits in place at most.
MOST_S = 300e-6
#: Waits that are left out after so many in vain, one after the other: twice as many each time.
_LONGEST_PAUSE = 1024


class Patience:
    """Counts how waiting in place went. Belongs to one event loop.

    Whoever waits in vain once waits less often: of many batches whose answers never come in time, one in a
    thousand is waited for.
    """

    __slots__ = ("_left_out", "_pause")

    def __init__(self) -> None:
        self._left_out = 0
        self._pause = 1

    def worth(self) -> bool:
        """Whether to wait this time; whoever does says how it went with ``waited``."""
        if self._left_out:
            self._left_out -= 1
            return False
        return True

    def waited(self, came: bool) -> None:
        """Whether the answer came in that time."""
        if came:
            self._pause = 1
        else:
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            self._left_out = self._pause

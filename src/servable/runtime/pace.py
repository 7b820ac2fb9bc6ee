"""How threads that load or look leave the processor to the thread that answers meanwhile.

They work beside the event loop, under one lock of the interpreter and often on the same processor, and the
kernel favours them there: the loop has had more than its share already, so they may take the processor from
it in the middle of an answer, and keep it until the next tick (four milliseconds at 250 Hz). ``keep_back``
ends the first, and a pause between the steps of a load the second. See
``docs/decisions/0067-a-load-pauses.md``.
"""

import os
import time
from contextlib import suppress


def keep_back() -> None:
    """Let the calling thread, and what it starts, take the processor from nobody who has it.

    It gets as much of the processor as before (``SCHED_BATCH``, see ``sched(7)``), only later. A thread that
    its operator gave another policy is left as it is.
    """
    # A sandbox may forbid either call, and then nothing has changed.
    with suppress(OSError):
        if os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


class Pace:
    """Pauses between the steps of a load. Safe to share between threads.

    Attributes:
        breath_s: seconds of each pause; 0 while nobody is answered.
    """

    def __init__(self, breath_s: float = 0.0) -> None:
        self.breath_s = breath_s

    def breathe(self) -> None:
        """Pause; call where a step of about a millisecond is over. Blocks the calling thread."""
        if self.breath_s:
            time.sleep(self.breath_s)


#: Of loads that nobody waits beside.
HURRIED = Pace()

"""Hostile clients that are measured against must not take the processor from the clients that are measured.

In the world they are on other machines. Here they share two cores with the server and with the clients
whose answers are timed, and a scheduler slice of theirs would be counted as the server's slowness.
"""

import os


def stand_back() -> None:
    """This process runs only where nobody else wants the processor; what it sends is served as ever."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

"""The watcher of a server's home: ``python -m servable.engines.watcher``, started by ``WatcherKeeper``.

It ends on SIGTERM and when its server is gone.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence

from servable import logs
from servable.errors import ServableError
from servable.security.actors import begin_acting, service
from servable.server.parents import end_with
from servable.settings import load_settings

_log = logs.logger("watcher")
#: Requests are answered before anything is watched.
_NICENESS = 10


def main(arguments: Sequence[str]) -> int:
    """Watch until told to end.

    Args:
        arguments: the server's process id, and 1 when log lines are to be written.

    Returns:
        The exit status.
    """
    parent, told = map(int, arguments)
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: ending.set())
    end_with(parent)
    with contextlib.suppress(OSError):
        os.nice(_NICENESS)
    settings = load_settings()
    begin_acting(service("watch"))
    if told:
        logs.configure(settings.log_level, settings.log_format)
    # After the priority was lowered, because the libraries of the registry take a while to import.
    from servable.workflows.watch import watch

    try:
        watch(settings.home, database_url=settings.database_url, ending=ending)
    except ServableError as error:
        _log.error("the home cannot be watched", extra=logs.fields(reason=error.message))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The process that keeps shared models: ``python -m servable.engines.keeper``, started by ``keeping``.

It runs no model code itself: every model is in processes of its own, which it watches and replaces. It ends
when nobody is left who could share anything, so it outlives its parent for as long as workers answer what
they were asked.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence

import uvloop

from servable import logs
from servable.monitoring.totals import Snapshot, process_figures
from servable.runtime.keeper import Keeper
from servable.runtime.shared import Way
from servable.server.lifecycle import settle_in
from servable.server.messages import Channel, Told, ToWorker
from servable.server.workers import REPORT_S
from servable.serving.selfcheck import check_moved


def main(arguments: Sequence[str]) -> int:
    """Run the keeper.

    Args:
        arguments: two descriptors, of the private socket to the parent and of the mailbox; then level and
            format of the log, both empty to write none.

    Returns:
        The exit status.
    """
    descriptors = [int(each) for each in arguments[:2]]
    level, form = arguments[2:4]
    for number in (signal.SIGINT, signal.SIGTERM):
        # A service manager may signal every process at once; models are needed until the last answer.
        signal.signal(number, _stays)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    if level:
        logs.configure(level, form)
    private, mailbox = (socket.socket(fileno=descriptor) for descriptor in descriptors)
    with mailbox, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_live(private, mailbox))
    return 0


def _stays(number: int, frame: object) -> None:
    """A signal that changes nothing."""


async def _live(private: socket.socket, mailbox: socket.socket) -> None:
    channel = await Channel.over(private, ToWorker)
    reporting = asyncio.create_task(_report(channel))
    settle_in()
    try:
        await Keeper(mailbox, way=Way(check=check_moved)).run()
    finally:
        reporting.cancel()
        await channel.close()


async def _report(channel: Channel) -> None:
    """Give signs of life, with what the process costs."""
    while True:
        if not channel.behind:
            channel.send(Told(0, Snapshot(process=process_figures())))
        await asyncio.sleep(REPORT_S)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

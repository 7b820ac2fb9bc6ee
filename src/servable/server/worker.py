"""One HTTP process of several: ``python -m servable.server.worker``, started by ``engines.supervisor``.

It accepts on a socket that its parent holds. It ends when the parent says so, when it is told to by
SIGTERM, and when the parent is gone. SIGINT is ignored: Ctrl-C reaches the parent, which passes it on.
"""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import uvloop

from servable import logs
from servable.errors import ServableError
from servable.runtime.mailbox import hand_over
from servable.runtime.poison import PoisonArea
from servable.runtime.sharing import Sharing
from servable.server.lifecycle import ServerLife, settle_in
from servable.server.limit_area import LimitArea
from servable.server.messages import Channel, Failed, Ready, Start, ToWorker
from servable.server.parents import end_with
from servable.server.turns import Board, Place
from servable.server.workers import ParentLink
from servable.serving.changes import change

_log = logs.logger("worker")


def main(arguments: Sequence[str]) -> int:
    """Run one worker.

    Args:
        arguments: six descriptors, of the private socket, the listening socket, the way to the keeper of
            shared models, the board of connections, the area of poison and that of limits; and the parent's
            id.

    Returns:
        The exit status.
    """
    *descriptors, parent = map(int, arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)
    # Model processes, which this process may start, must not hold these open.
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    private, listening, mailbox = (socket.socket(fileno=descriptor) for descriptor in descriptors[:3])
    memory = _Memory(*descriptors[3:])
    with mailbox, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_live(private, listening, mailbox, memory))


class _Memory(NamedTuple):
    """Descriptors of what all workers share: the board of connections, the areas of poison and of limits."""

    board: int
    poison: int
    limits: int


async def _live(
    private: socket.socket, listening: socket.socket, mailbox: socket.socket, memory: _Memory
) -> int:
    channel = await Channel.over(private, ToWorker)
    start = await channel.receive()
    if not isinstance(start, Start):
        return 1
    if start.logs:
        logs.configure(start.settings.log_level, start.settings.log_format)
    try:
        place = Place(Board(memory.board, start.places), start.place)
        poisons = PoisonArea(memory.poison).of
        sharing = Sharing(start.workers, partial(hand_over, mailbox), poisons)
        limits = LimitArea(memory.limits, start.places, start.place)
        link = ParentLink(channel, place, patient=start.patient, limits=limits, sharing=sharing)
        await _serve(channel, start, listening, link)
    except ServableError as error:
        channel.send(Failed(error.code, error.message))
        return 1
    except Exception as error:  # noqa: BLE001 - the border of the process: the parent learns of it, the log knows all
        _log.exception("a worker failed inside")
        channel.send(Failed("internal_error", f"A worker failed inside: {type(error).__name__}."))
        return 1
    finally:
        await channel.close()
    return 0


async def _serve(channel: Channel, start: Start, listening: socket.socket, link: ParentLink) -> None:
    loop = asyncio.get_running_loop()
    life = ServerLife(start.settings, start.only, start.version, listening=listening, link=link)
    told = 0

    def stop(at_once: bool = False) -> None:
        # A supervisor of the system may signal every process of a group and the parent as well; only
        # the parent may say that there is no time.
        nonlocal told
        while told < 1 + at_once:
            told += 1
            life.stop()

    def up(future: "asyncio.Future[None]") -> None:
        if future.cancelled():
            return
        settle_in()
        channel.send(Ready())

    loop.add_signal_handler(signal.SIGTERM, stop)
    started = loop.create_future()
    started.add_done_callback(up)
    following = asyncio.create_task(link.follow(life.host.metrics.snapshot, stop, partial(change, life.host)))
    try:
        await life.run(started)
    finally:
        # The last figures, so that what was counted since the last report is not lost.
        link.report(life.host.metrics.snapshot())
        following.cancel()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

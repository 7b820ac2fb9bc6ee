"""Who acts, for the audit log: known by context, so that what is recorded deep inside need not be handed it.

A context without an actor is one of a person or a script on this machine: the user of the system.
"""

import getpass
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import NamedTuple


class Actor(NamedTuple):
    """Who does something, and from where.

    Attributes:
        who: ``user:anna`` of the system; ``key:ci``, ``token:...`` or ``certificate:...`` at a server;
            ``service:watch`` for what acts by itself; ``anybody`` where no key was asked for.
        where: ``host:box1`` or ``address:10.0.0.7``.
    """

    who: str
    where: str


_PRESENT: ContextVar[Actor | None] = ContextVar("servable_actor", default=None)


def actor() -> Actor:
    """Who acts now. Safe to call from any thread."""
    return _PRESENT.get() or _system()


@contextmanager
def acting(who: Actor) -> Iterator[None]:
    """Everything in the block is done by somebody; threads and tasks that begin in it know as well."""
    token = _PRESENT.set(who)
    try:
        yield
    finally:
        _PRESENT.reset(token)


def begin_acting(who: Actor) -> None:
    """Everything that follows in this context, such as a task of a request, is done by somebody."""
    _PRESENT.set(who)


def service(name: str) -> Actor:
    """What acts by itself on this machine."""
    return Actor(f"service:{name}", _system().where)


@cache
def _system() -> Actor:
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        # A user without a name, as containers have them.
        user = "unknown"
    return Actor(f"user:{user}", f"host:{socket.gethostname()}")

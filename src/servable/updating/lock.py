"""At most one process works on a model's update: a lock on this machine, and a lease across machines.

The lock ends with the process that holds it, however that ends, so that a restart on the same machine goes on
at once. The lease belongs to the machine; one that died frees it by the passing of time.
"""

import fcntl
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from servable.artifact.files import storage_errors, sync_folder, write_file
from servable.clock import Clock
from servable.errors import ConflictError, ServableError
from servable.registry.home import Home
from servable.registry.leases import Leases

#: Seconds for which a lease is taken; it is taken again three times as often.
LEASE_S = 60.0


@contextmanager
def alone(home: Home, model: str, clock: Clock, *, seconds: float = LEASE_S) -> Iterator[Callable[[], None]]:
    """Nobody else updates this model within the block.

    Args:
        home: where.
        model: whose update.
        clock: dates the lease.
        seconds: of the lease.

    Yields:
        A check to make before anything that others see: raises ``ConflictError`` once the lease may be lost.

    Raises:
        ConflictError: somebody else does so already.
        StorageFailed: the home cannot be written, or the database does not answer.
    """
    leases, name = Leases(home.state, clock), f"update {model}"
    with _locked(home.path / "updates", model):
        holder = _machine(home.path / "updates")
        if not leases.take(name, holder, seconds):
            raise _busy(model, "another machine")
        renewing = _Renewing(leases, name, holder, seconds)
        renewing.start()
        try:

            def check() -> None:
                if not leases.take(name, holder, seconds):
                    raise _busy(model, "another machine, because this one did not answer for a while")

            yield check
        finally:
            renewing.stop()
            # One that the database does not take back runs out by itself.
            with suppress(ServableError):
                leases.give_back(name, holder)


class _Renewing(threading.Thread):
    """Takes a lease again and again until it is stopped."""

    def __init__(self, leases: Leases, name: str, holder: str, seconds: float) -> None:
        super().__init__(name="servable-lease", daemon=True)
        self._leases = leases
        self._asked = (name, holder, seconds)
        self._pause = seconds / 3
        self._over = threading.Event()

    def run(self) -> None:
        """Take it; a database that does not answer is asked again, and whoever acts checks by itself."""
        while not self._over.wait(self._pause):
            with suppress(ServableError):
                self._leases.take(*self._asked)

    def stop(self) -> None:
        """End; returns when the thread has ended."""
        self._over.set()
        self.join()


@contextmanager
def _locked(folder: Path, model: str) -> Iterator[None]:
    with storage_errors("locking the update"):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / f"{model}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _busy(model, "another process") from error
        yield
    finally:
        os.close(descriptor)


def _machine(folder: Path) -> str:
    """A name for this machine and home that no other has; kept in a file."""
    path = folder / "machine"
    with storage_errors("naming the machine"):
        if not path.exists():
            draft = folder / f"machine.{uuid.uuid4().hex}"
            write_file(draft, uuid.uuid4().hex.encode())
            # A second process that comes here at once must not change a name that was given.
            with suppress(FileExistsError):
                os.link(draft, path)
            draft.unlink()
            sync_folder(folder)
        return f"{socket.gethostname()[:60]} {path.read_text(encoding='utf-8')}"


def _busy(model: str, who: str) -> ConflictError:
    return ConflictError(f"{model} is being updated by {who}; nothing was done here.")

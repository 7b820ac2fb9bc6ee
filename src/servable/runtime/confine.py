"""What a model process may not do, told to the kernel before the model is loaded; and how it is looked at.

- No core files: they would hold callers' rows (``RLIMIT_CORE`` 0).
- No new privileges, for itself and whatever it starts (``PR_SET_NO_NEW_PRIVS``).
- It dies with the thread that started it (``PR_SET_PDEATHSIG``), so that a killed server leaves nothing.
- It is the first that the kernel ends when the machine runs out of memory, before the server.
- A bound on address space (``RLIMIT_AS``), so that a runaway allocation fails that run alone.

Address space is much larger than memory in use: libraries, thread stacks and allocators reserve what
they never touch. So the bound is not the memory limit but what is mapped plus room to work:

- while loading: mapped + the larger of 4 x ``memory_bytes`` and 8 GiB;
- afterwards: mapped after loading + the larger of 2 x ``memory_bytes`` and 512 MiB.

What creeps up below that bound is seen by the server, which replaces a process whose resident memory is
above ``memory_bytes``.
"""

import contextlib
import ctypes
import os
import resource
import signal
import time
from pathlib import Path
from typing import NamedTuple

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LEAST_LOADING_ROOM = 8 * 1024**3
_LEAST_WORKING_ROOM = 512 * 1024**2
#: Addresses that a library reserves for each of its threads, of which it starts one for each core.
_THREAD_ROOM = 1024**3
#: What onnxruntime, PyTorch, TensorFlow and C++ itself say when there is no more memory.
_SHORTAGE = (
    "Failed to allocate memory",
    "Cannot allocate memory",
    "OOM when allocating",
    "bad_alloc",
)
#: Between 0 and 1000; the server stays at 0.
_KILLED_FIRST = "500"
#: Priorities from 0 to 19, of a process that stands back while it loads and of one that is loaded. A load
#: takes seconds of a processor: with much less than half a share it would not end on a busy machine.
_LOW, _LOWEST = 3, 19
_SESSION = Path("/proc/self/autogroup")
#: The open entry of that, where this process will not be allowed to open it when it is wanted.
_session: list[int] = []
#: Tries to set the priority of a session, and seconds between two: ordinary users may ten times a second.
_TRIES, _AGAIN_S = 5, 0.2


class Look(NamedTuple):
    """A process as the kernel sees it.

    Attributes:
        state: one letter: ``R`` runs, ``S`` waits, ``T`` was stopped, ``Z`` is dead and not reaped.
        memory_bytes: resident.
        threads: that it has.
    """

    state: str
    memory_bytes: int
    threads: int


def confine(parent: int) -> None:
    """Take away what a model process does not need; call first thing in it.

    Args:
        parent: process id of the server.

    Raises:
        SystemExit: the server is gone already.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        # It died before the kernel was told; nobody would send the signal any more.
        raise SystemExit(0)
    for number in (signal.SIGINT, signal.SIGTERM):
        # Stopping is the server's business: it closes the socket when it is done with this process, also
        # where a service manager signals every process at once. Handled and not ignored, because what is
        # ignored stays ignored in programs that the model starts.
        signal.signal(number, _stays)
    with contextlib.suppress(OSError):
        # Some containers forbid it; then the kernel chooses by size alone.
        Path("/proc/self/oom_score_adj").write_text(_KILLED_FIRST)


def hold_session() -> None:
    """Open what ``stand_back`` and ``stand_far_back`` write to; call before files are confined."""
    with contextlib.suppress(OSError):
        _session.append(os.open(_SESSION, os.O_WRONLY | os.O_CLOEXEC))


def stand_back() -> None:
    """Let this process take less than others: it loads, and is to come to an end with it all the same."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, _LOW)
    _lower_session(_LOW)


def stand_far_back() -> None:
    """Let this process, with all the threads that it has, run only where nobody else wants the processor."""
    for task in Path("/proc/self/task").iterdir():
        # Where a sandbox forbids the policy, the lowest priority of the ordinary one is left.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(task.name), _LOWEST)
        with contextlib.suppress(OSError):
            os.sched_setscheduler(int(task.name), os.SCHED_IDLE, os.sched_param(0))
    _lower_session(_LOWEST)
    while _session:
        os.close(_session.pop())


def send_far_back(pid: int) -> None:
    """Let another process of the same user, just started, run only where nobody else wants the processor.

    A process cannot do so itself before its interpreter has started, which takes a tenth of a second.
    """
    with contextlib.suppress(OSError):
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    # Its session counts first, see ``_lower_session``; one try, because this runs in an event loop.
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(_LOWEST))


def _lower_session(priority: int) -> None:
    """Lower the priority of the session that this process leads.

    Many kernels share the processors out among sessions first (``sched_autogroup_enabled``), and there a
    process gets as much as the whole server, whatever its own priority is.
    """
    for _ in range(_TRIES):
        try:
            if _session:
                os.write(_session[-1], str(priority).encode())
            else:
                _SESSION.write_text(str(priority))
        except BlockingIOError:
            time.sleep(_AGAIN_S)
        except OSError:
            # A kernel without such groups.
            return
        else:
            return


def _stays(number: int, frame: object) -> None:
    """A signal that changes nothing."""


def bound_loading(memory_bytes: int) -> None:
    """Bound the address space while the model is loaded."""
    _bound(max(4 * memory_bytes, _LEAST_LOADING_ROOM))


def bound_working(memory_bytes: int, threads: int = 0) -> None:
    """Bound the address space while the model works; tighter than before, and not to be raised again.

    Args:
        memory_bytes: that the process may take.
        threads: that the model's library starts by itself, with room for each.
    """
    _bound(max(2 * memory_bytes, _LEAST_WORKING_ROOM) + threads * _THREAD_ROOM)


def _bound(room: int) -> None:
    most = mapped_bytes() + room
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def is_shortage(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that memory could not be had.

    Python says so by a class of its own, libraries in C++ by words.
    """
    while error is not None:
        if isinstance(error, MemoryError) or any(words in str(error) for words in _SHORTAGE):
            return True
        error = error.__cause__ or error.__context__
    return False


def mapped_bytes() -> int:
    """Address space of this process."""
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * _PAGE


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE


def look_at(pid: int) -> Look | None:
    """State, memory and threads of a process, None when there is none."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        line = os.read(descriptor, 4096)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    # The name in brackets may hold anything; the fields after the last bracket are fixed.
    fields = line.rpartition(b")")[2].split()
    return Look(fields[0].decode(), int(fields[21]) * _PAGE, int(fields[17]))

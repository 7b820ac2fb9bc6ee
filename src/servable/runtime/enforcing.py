"""Confines a model process as its server wants it, and says what of it is in force.

Everything here happens in the process's only thread: what the kernel is told holds for that thread and those
that it starts, so it comes before NumPy and others start theirs. ``confine`` has the limits that hold always.
"""

import contextlib
import ctypes
import os
import resource
import stat
import struct
from collections.abc import Callable
from pathlib import Path

from servable.errors import SurroundingsError
from servable.runtime import landlock, reading, seccomp
from servable.runtime.confine import hold_session
from servable.runtime.confinement import Hold, Mode, Protection, lacking
from servable.runtime.framing import Load, Standing
from servable.runtime.surroundings import is_passed

#: Descriptors that a model may hold.
_DESCRIPTORS = 4096
#: Processes and threads that a model may start together where programs are declared.
_STARTED = 1024
#: Standard streams, the socket and the two areas.
_INHERITED = 6
_UMASK = 0o077
_CAPABILITIES = 0x20080522
#: Of an administrator's powers the one that reads whatever lies there: a package may belong to somebody else,
#: and Landlock says what may be read.
_KEPT_POWER = 1 << 2
#: Of the variables of a process, those that are made for it.
_MADE = frozenset({"HOME", "LOGNAME", "USER", "TMPDIR", "LC_CTYPE"})
#: What the filter of system calls keeps.
_FILTERED = ("network", "programs", "calls", "signals")
_DECLARED = "its deployment or its author declares it"


def enforce(load: Load, folder: str) -> tuple[Protection, ...]:
    """Confine this process.

    Args:
        load: what it is to load, and how it is to be confined.
        folder: of its own; empty for none.

    Returns:
        Every protection; none where the confinement is off.

    Raises:
        SurroundingsError: it must be confined wholly, and this machine cannot.
    """
    wanted = load.confinement
    if wanted.mode is Mode.OFF:
        return ()
    alone, gpu = _alone(), _may_use_gpu(load.device)
    inherited = _descriptors()
    if load.behind is not Standing.LEVEL:
        hold_session()
    found = (
        _environment(wanted.environment),
        inherited,
        _tried("limits", lambda: _limit(load.memory_bytes, programs=wanted.programs)),
        _memory(gpu=gpu),
        _tried("privileges", _drop_powers),
        _none(("files",), alone)[0] if alone else _files(load, folder, gpu=gpu),
        *(_none(_FILTERED, alone) if alone else _filter(network=wanted.network, programs=wanted.programs)),
    )
    if wanted.mode is Mode.REQUIRE and (why := lacking(found)):
        raise SurroundingsError(
            f"The model cannot be confined here as the setting confinement wants it ({why}); set it to best."
        )
    return tuple(sorted(found, key=lambda each: _ORDER.index(each.name)))


#: In which order protections are told.
_ORDER = (
    "network", "files", "programs", "calls", "signals", "privileges", "environment", "descriptors", "memory",
    "limits",
)  # fmt: skip


def _may_use_gpu(device: str) -> bool:
    """As ``frameworks.devices`` tells, which nothing here may import: it brings NumPy along."""
    return device != "cpu" and Path("/dev/nvidiactl").exists()


def _alone() -> str:
    """Why this process cannot be confined as a whole; empty when it has one thread."""
    threads = len(list(Path("/proc/self/task").iterdir()))
    return "" if threads == 1 else "a library had started threads before"


def _none(names: tuple[str, ...], why: str) -> tuple[Protection, ...]:
    return tuple(Protection(name, Hold.MISSING, why) for name in names)


def _tried(name: str, work: Callable[[], None]) -> Protection:
    try:
        work()
    except (OSError, ValueError) as error:
        return Protection(name, Hold.MISSING, _reason(error))
    return Protection(name)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _environment(more: tuple[str, ...]) -> Protection:
    """The server made it; what is more than that stands here."""
    strange = sorted(name for name in os.environ if name not in _MADE and not is_passed(name, more))
    if strange:
        return Protection("environment", Hold.MISSING, f"it holds {', '.join(strange[:3])}")
    return Protection("environment")


def _descriptors() -> Protection:
    # One more is that by which they are listed.
    count = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 - no path is made of it
    if count > _INHERITED:
        return Protection("descriptors", Hold.MISSING, f"it inherited {count} instead of {_INHERITED}")
    return Protection("descriptors")


def _limit(memory_bytes: int, *, programs: bool) -> None:
    """Bound what it can take besides memory."""
    os.umask(_UMASK)
    bounds = {resource.RLIMIT_NOFILE: _DESCRIPTORS}
    # What it prints may go to a log that is as long as its server is old.
    if not stat.S_ISREG(os.fstat(2).st_mode):
        # Areas of shared memory count as files, and they are as large as what they carry.
        bounds[resource.RLIMIT_FSIZE] = memory_bytes
    if programs:
        # The kernel counts all of this user's, those of other servers, too; and none of root's.
        bounds[resource.RLIMIT_NPROC] = _tasks() + _STARTED
    for kind, most in bounds.items():
        _, hard = resource.getrlimit(kind)
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, bound))


def _tasks() -> int:
    """How many processes and threads this user has."""
    count = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # Processes come and go while they are counted.
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == os.geteuid():
                    count += len(os.listdir(entry / "task"))  # noqa: PTH208 - no path is made of it
    return count


def _memory(*, gpu: bool) -> Protection:
    """``confine`` bounds the addresses of a process without a GPU; the server watches all of them."""
    note = "a driver of GPUs reserves far more than it uses, and the server watches what is used"
    return Protection("memory", Hold.LIFTED, note) if gpu else Protection("memory")


def _drop_powers() -> None:
    """Give up an administrator's powers, which a process has where its server runs as one.

    Raises:
        OSError: the kernel would not.
    """
    library = ctypes.CDLL(None, use_errno=True)
    head = struct.pack("=Ii", _CAPABILITIES, 0)
    found = ctypes.create_string_buffer(24)
    if library.capget(head, found) != 0:
        raise OSError(ctypes.get_errno(), "its powers cannot be asked for")
    kept = struct.unpack_from("=I", found, 4)[0] & _KEPT_POWER
    if library.capset(head, struct.pack("=6I", kept, kept, 0, 0, 0, 0)) != 0:
        raise OSError(ctypes.get_errno(), "its powers cannot be given up")


def _files(load: Load, folder: str, *, gpu: bool) -> Protection:
    """Landlock: which files may be opened."""
    wanted = load.confinement
    # An entry of a process in /proc may be made anew when nobody holds it, and then no rule would know it.
    os.open("/proc/self", os.O_PATH | os.O_CLOEXEC)
    allowed = reading.rules(
        load.folder, folder, hidden=wanted.hidden, files=wanted.files, network=wanted.network, gpu=gpu
    )
    if wanted.programs:
        allowed = reading.runnable(allowed)
    try:
        version = landlock.restrict(allowed, network=wanted.network)
    except OSError as error:
        return Protection("files", Hold.MISSING, _reason(error))
    why = landlock.gap(version)
    return Protection("files", Hold.MISSING, why) if why else Protection("files")


def _filter(*, network: bool, programs: bool) -> tuple[Protection, ...]:
    """The filter of system calls: connections, programs, doors into the kernel."""
    try:
        seccomp.install(network=network, programs=programs)
    except OSError as error:
        return _none(_FILTERED, _reason(error))
    lifted = {"network"} if network else set()
    if programs:
        # Landlock keeps signals among what the model started from the version on that knows them.
        lifted |= {"programs"} if landlock.keeps_signals(landlock.version()) else {"programs", "signals"}
    return tuple(
        Protection(name, Hold.LIFTED, _DECLARED) if name in lifted else Protection(name) for name in _FILTERED
    )

"""A short slice of the processor for the thread of the event loop.

The kernel lets whoever has a processor keep it for a slice, as a rule one to four milliseconds, also when
somebody wakes up who should have it first. A request that comes while anything else has the processor, even
a process of the lowest priority in a session of its own, waits for the rest of that. Linux from 6.12 on takes
the processor at once for a thread whose own slice is shorter than that of who has it ("EEVDF", ``sched(7)``
and ``sched_setattr(2)``: ``sched_runtime`` of a ``SCHED_OTHER`` thread). The thread gets no more of the
processor by that, only sooner. Older kernels take no notice of it.
"""

import ctypes
import os
import platform

#: Numbers of ``sched_setattr``, for which the C library has no function.
_SET = {"x86_64": 314, "aarch64": 274}
#: The shortest that the kernel takes, in nanoseconds.
_SLICE_NS = 100_000
#: What this thread starts has ordinary slices, and models run in that.
_RESET_ON_FORK = 1


class _Attributes(ctypes.Structure):
    """``struct sched_attr``, see ``sched_setattr(2)``."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("runtime", ctypes.c_uint64),
        ("deadline", ctypes.c_uint64),
        ("period", ctypes.c_uint64),
    )


def shorten_slices() -> bool:
    """Ask for short slices for the calling thread, without which it works as well.

    A thread that its operator gave another policy or a priority above the ordinary is left as it is: what it
    starts would lose that priority.

    Returns:
        Whether the system took it.
    """
    number = _SET.get(platform.machine())
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if number is None or nice < 0 or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return False
    wanted = _Attributes(flags=_RESET_ON_FORK, policy=os.SCHED_OTHER, nice=nice, runtime=_SLICE_NS)
    wanted.size = ctypes.sizeof(wanted)
    # A sandbox may forbid the call, and then nothing has changed.
    return bool(ctypes.CDLL(None).syscall(number, 0, ctypes.byref(wanted), 0) == 0)

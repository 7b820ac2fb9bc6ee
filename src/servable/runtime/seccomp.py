"""A filter of system calls: what a model process may not ask of the kernel (Linux 3.17 and later).

The filter refuses with the ordinary error of a missing permission, so that what a model tries fails as it
would fail for any user without the right, and the process lives on; only who calls in the way of another
processor is ended. It is a program for the kernel's own
little machine (classic BPF), which sees the number of a call and its arguments, not what they point to.

What is refused: connections of any kind but the pairs of sockets that stay within the process (with a
declared network only those other than TCP and UDP), other processes (tracing, memory, signals, limits),
starting programs and processes (where they are declared only to leave the group that ends with the model),
mounts and namespaces, owners and modes of files, and doors into the kernel that no model needs (io_uring,
which goes around every filter; bpf, userfaultfd, perf, keys, modules).
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from servable.runtime.syscalls import PROCESSORS, Processor, number

_SET_MODE_FILTER = 1
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
#: The whole process ends, by ``SIGSYS``.
_END = 0x80000000
#: As of a kernel without the call, so that the caller takes an older one, whose arguments are seen.
_ABSENT = 0x00050000 | errno.ENOSYS
# Instructions: load a word, compare and jump, keep some bits, end.
_LOAD, _EQUAL, _AT_LEAST, _BITS, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
# Where the filter finds what it looks at. Of an argument it needs the lower half, but for addresses.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
#: Numbers from here on are those of another way to call, which has no place here.
_FOREIGN_WAY = 0x40000000
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_STREAM, _DATAGRAM = 1, 2
_KIND_OF_SOCKET = 0xF
_CLONE_THREAD = 0x00010000
#: Flags of ``clone`` that make namespaces: of mounts, control groups, names, messages, users, processes and
#: the network.
_CLONE_NAMESPACES = 0x7E020000

#: Refused whatever the arguments are.
_ALWAYS = (
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp",
    "pidfd_open", "pidfd_getfd", "pidfd_send_signal",
    "mount", "umount2", "pivot_root", "chroot", "mount_setattr", "move_mount", "open_tree", "open_tree_attr",
    "fsopen", "fsconfig", "fsmount", "fspick", "setns", "unshare",
    "bpf", "kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "userfaultfd",
    "perf_event_open", "io_uring_setup", "io_uring_enter", "io_uring_register", "keyctl", "add_key",
    "request_key", "syslog", "lookup_dcookie", "nfsservctl",
    "swapon", "swapoff", "reboot", "sethostname", "setdomainname", "acct", "quotactl", "quotactl_fd",
    "settimeofday", "clock_settime", "adjtimex", "clock_adjtime", "vhangup", "personality", "iopl", "ioperm",
    "modify_ldt", "uselib",
    "open_by_handle_at", "name_to_handle_at", "fanotify_init",
    "chmod", "fchmod", "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat",
)  # fmt: skip
#: Refused unless programs are declared.
_STARTING = ("execve", "execveat", "fork", "vfork")
#: Refused where they are: what is started ends with the group of the process that started it.
_LEAVING = ("setsid", "setpgid")
#: Allowed only for the process itself, which their first argument names. What was started has another number
#: and goes by 0 alone.
_OF_ITSELF = ("prlimit64", "migrate_pages", "move_pages")
#: Likewise, unless programs are declared, which have to be ended.
_SIGNALS = ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
_CONNECTING = ("connect", "bind", "listen", "accept", "accept4")


class Instruction(NamedTuple):
    """One step of a filter.

    Attributes:
        code: what it does.
        value: with what.
        yes: steps to pass over when a comparison holds.
        no: steps to pass over when it does not.
    """

    code: int
    value: int
    yes: int = 0
    no: int = 0


def program(processor: Processor, pid: int, *, network: bool, programs: bool) -> tuple[Instruction, ...]:
    """The filter; pure.

    Args:
        processor: of this machine.
        pid: of the process that it is for.
        network: whether the model may have connections.
        programs: whether it may start programs and processes.
    """
    steps = [
        Instruction(_LOAD, _ARCHITECTURE),
        # The same processor may be called in the way of another one, where the numbers mean something else.
        # No library does that by mistake.
        Instruction(_EQUAL, processor.architecture, 1, 0),
        Instruction(_RETURN, _END),
        Instruction(_LOAD, _NUMBER),
        Instruction(_AT_LEAST, _FOREIGN_WAY, 0, 1),
        Instruction(_RETURN, _REFUSE),
    ]
    for name, body in (*_bodies(pid, programs=programs), *_talks(network=network)):
        found = number(name, processor)
        if found is not None:
            steps += [Instruction(_EQUAL, found, 0, len(body)), *body]
    return (*steps, Instruction(_RETURN, _ALLOW))


def install(*, network: bool, programs: bool) -> None:
    """Put this thread, and all that it starts, under the filter for good; ``no_new_privs`` must be set.

    Args:
        network: whether the model may have connections.
        programs: whether it may start programs and processes.

    Raises:
        OSError: the kernel cannot, or would not.
    """
    machine = os.uname().machine
    processor = PROCESSORS.get(machine)
    if processor is None:
        raise OSError(errno.ENOSYS, f"there is no filter of system calls for processors of {machine}")
    steps = program(processor, os.getpid(), network=network, programs=programs)
    packed = b"".join(struct.pack("=HBBI", each.code, each.yes, each.no, each.value) for each in steps)
    held = ctypes.create_string_buffer(packed, len(packed))
    # A count and an address, as C lays them out.
    whole = struct.pack("@HP", len(steps), ctypes.addressof(held))
    call = ctypes.CDLL(None, use_errno=True).syscall
    if call(_SECCOMP[machine], _SET_MODE_FILTER, 0, whole) != 0:
        reason = ctypes.get_errno()
        raise OSError(reason, os.strerror(reason))


def _bodies(pid: int, *, programs: bool) -> Iterator[tuple[str, list[Instruction]]]:
    """Every call to the kernel or other processes that is looked at, and the steps that decide on it.

    Each ends by itself.
    """
    refuse = [Instruction(_RETURN, _REFUSE)]
    yield from ((name, refuse) for name in (*_ALWAYS, *(_LEAVING if programs else _STARTING)))
    for name in (*_OF_ITSELF, *(() if programs else _SIGNALS)):
        # To most of them 0 means the caller, or its group, which it leads alone.
        yield name, _decided([*_loaded(0), *_one_of((0, pid))])
    # A thread is allowed, a process where programs are declared, a view of the machine of its own never.
    allowed = (_CLONE_NAMESPACES, 0, 1) if programs else (_CLONE_THREAD, 1, 0)
    yield "clone", _decided([*_loaded(0), Instruction(_BITS, *allowed)])
    yield "clone3", [Instruction(_RETURN, _ABSENT)]


def _talks(*, network: bool) -> Iterator[tuple[str, list[Instruction]]]:
    """Likewise every call about connections."""
    refuse = [Instruction(_RETURN, _REFUSE)]
    # Pairs of streams, as event loops have them to wake themselves; a datagram could be sent elsewhere.
    yield "socketpair", _both([*_loaded(0), *_one_of((_AF_UNIX,))], [*_kind(), *_one_of((_STREAM,))])
    if network:
        # Of the kernel's own messages those about addresses, which looking up a name needs.
        families, kinds = (_AF_INET, _AF_INET6), (_STREAM, _DATAGRAM)
        yield "socket", _sockets(families, kinds)
        return
    yield "socket", refuse
    yield from ((name, refuse) for name in _CONNECTING)
    # The address of a receiver has two halves.
    yield (
        "sendto",
        _both(
            [Instruction(_LOAD, _FIRST_ARGUMENT + 8 * 4), *_one_of((0,))],
            [Instruction(_LOAD, _FIRST_ARGUMENT + 8 * 4 + 4), *_one_of((0,))],
        ),
    )


def _loaded(argument: int) -> list[Instruction]:
    return [Instruction(_LOAD, _FIRST_ARGUMENT + 8 * argument)]


def _kind() -> list[Instruction]:
    """The kind of a socket, without the bits beside it."""
    return [*_loaded(1), Instruction(_AND, _KIND_OF_SOCKET)]


def _one_of(values: Sequence[int]) -> list[Instruction]:
    """Comparisons after which the next step is passed over where one of them holds."""
    last = len(values) - 1
    return [Instruction(_EQUAL, value, last - place + 1, 0) for place, value in enumerate(values)]


def _decided(test: Iterable[Instruction]) -> list[Instruction]:
    """Allow where a test holds, refuse where it does not."""
    return [*test, Instruction(_RETURN, _REFUSE), Instruction(_RETURN, _ALLOW)]


def _both(first: list[Instruction], second: list[Instruction]) -> list[Instruction]:
    """Allow where two tests hold."""
    return [*first, Instruction(_RETURN, _REFUSE), *_decided(second)]


def _sockets(families: Sequence[int], kinds: Sequence[int]) -> list[Instruction]:
    """Streams and datagrams of some families, and the kernel's messages about addresses."""
    plain = _decided([*_kind(), *_one_of(kinds)])
    messages = _decided([*_loaded(2), *_one_of((0,))])
    return [
        *_loaded(0),
        Instruction(_EQUAL, _AF_NETLINK, 0, len(messages)),
        *messages,
        *_one_of(families),
        Instruction(_RETURN, _REFUSE),
        *plain,
    ]

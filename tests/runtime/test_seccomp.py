"""The filter of system calls, run as the kernel runs it, for both processors."""

import socket
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.runtime.seccomp import Instruction, program
from servable.runtime.syscalls import PROCESSORS, Processor, number

ALLOWED, REFUSED, ABSENT, ENDED = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000
PID = 4711
READ = {"x86_64": 0, "aarch64": 63}
_NONE = -1
#: Numbers as the kernel's own tables have them, on x86_64 and on aarch64.
STARTING = {"execve": (59, 221), "execveat": (322, 281), "fork": (57, _NONE), "vfork": (58, _NONE)}
REFUSED_CALLS = {
    **STARTING, "ptrace": (101, 117), "process_vm_readv": (310, 270), "pidfd_getfd": (438, 438),
    "mount": (165, 40), "unshare": (272, 97), "setns": (308, 268), "chroot": (161, 51), "bpf": (321, 280),
    "userfaultfd": (323, 282), "perf_event_open": (298, 241), "io_uring_setup": (425, 425),
    "keyctl": (250, 219), "init_module": (175, 105), "reboot": (169, 142), "personality": (135, 92),
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242), "chmod": (90, _NONE), "fchmodat": (268, 53), "fchownat": (260, 54),
    "open_by_handle_at": (304, 265), "pidfd_send_signal": (424, 424), "clock_settime": (227, 112),
}  # fmt: skip
#: What interpreters, allocators, threads and event loops cannot do without.
NEEDED = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "fstat": (5, 80), "lseek": (8, 62), "mmap": (9, 222),
    "mprotect": (10, 226), "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135), "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66),
    "sched_yield": (24, 124), "madvise": (28, 233), "nanosleep": (35, 101), "getpid": (39, 172),
    "recvfrom": (45, 207), "sendmsg": (46, 211), "recvmsg": (47, 212), "shutdown": (48, 210),
    "exit": (60, 93), "ftruncate": (77, 46), "prctl": (157, 167), "gettid": (186, 178), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "getdents64": (217, 61), "clock_gettime": (228, 113),
    "exit_group": (231, 94), "epoll_ctl": (233, 21), "openat": (257, 56), "mkdirat": (258, 34),
    "newfstatat": (262, 79), "unlinkat": (263, 35), "renameat": (264, 38), "ppoll": (271, 73),
    "set_robust_list": (273, 99), "epoll_pwait": (281, 22), "eventfd2": (290, 19), "epoll_create1": (291, 20),
    "dup3": (292, 24), "pipe2": (293, 59), "getrandom": (318, 278), "memfd_create": (319, 279),
    "membarrier": (324, 283), "statx": (332, 291), "rseq": (334, 293),
}  # fmt: skip
processors = st.sampled_from(sorted(PROCESSORS.values()))


def verdict(steps: Sequence[Instruction], architecture: int, call: int, *arguments: int) -> int:
    """What a filter says of a call."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<IIQ6Q", call, architecture, 0, *padded)
    at = accumulator = 0
    while True:
        step = steps[at]
        at += 1
        match step.code:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, step.value)
            case 0x15:
                at += step.yes if accumulator == step.value else step.no
            case 0x35:
                at += step.yes if accumulator >= step.value else step.no
            case 0x45:
                at += step.yes if accumulator & step.value else step.no
            case 0x54:
                accumulator &= step.value
            case 0x06:
                return step.value


def asked(
    processor: Processor, name: str, *arguments: int, network: bool = False, programs: bool = False
) -> int:
    call = number(name, processor)
    assert call is not None
    steps = program(processor, PID, network=network, programs=programs)
    return verdict(steps, processor.architecture, call, *arguments)


def there(calls: dict[str, tuple[int, int]], processor: Processor) -> dict[str, int]:
    """The calls that a processor has, with their numbers."""
    return {name: both[processor.column] for name, both in calls.items() if both[processor.column] >= 0}


@pytest.mark.parametrize("processor", PROCESSORS.values(), ids=lambda each: each.machine)
def test_each_call_by_its_number(processor: Processor) -> None:
    steps = program(processor, PID, network=False, programs=False)
    for name, call in there(REFUSED_CALLS, processor).items():
        assert verdict(steps, processor.architecture, call) == REFUSED, name
    for flags in (False, True):
        steps = program(processor, PID, network=flags, programs=flags)
        for name, call in there(NEEDED, processor).items():
            assert verdict(steps, processor.architecture, call, 3, 1, 1) == ALLOWED, name


@pytest.mark.parametrize("processor", PROCESSORS.values(), ids=lambda each: each.machine)
def test_declared_programs_start_and_stay_where_they_are(processor: Processor) -> None:
    for name in there(STARTING, processor):
        assert asked(processor, name) == REFUSED, name
        assert asked(processor, name, programs=True) == ALLOWED, name
    # As posix_spawn and fork ask for a process.
    for flags in (0x4111, 0x1200011):
        assert asked(processor, "clone", flags) == REFUSED
        assert asked(processor, "clone", flags, programs=True) == ALLOWED
    # Mounts, control groups, names, messages, users, processes, network.
    for namespace in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert asked(processor, "clone", 0x11 | namespace, programs=True) == REFUSED
    assert asked(processor, "clone3", programs=True) == ABSENT
    assert asked(processor, "kill", PID + 1, 15, programs=True) == ALLOWED
    for name in ("setsid", "setpgid"):
        assert asked(processor, name, programs=True) == REFUSED
        assert asked(processor, name) == ALLOWED
    for name in ("ptrace", "socket", "unshare", "pidfd_getfd", "io_uring_setup"):
        assert asked(processor, name, programs=True) == REFUSED, name


@pytest.mark.parametrize("processor", PROCESSORS.values(), ids=lambda each: each.machine)
def test_calls(processor: Processor) -> None:
    plain = {
        "ptrace": (), "mount": (), "bpf": (), "io_uring_setup": (), "userfaultfd": (), "unshare": (),
        "keyctl": (), "perf_event_open": (), "finit_module": (), "execve": (), "process_vm_readv": (),
        "fchmodat": (), "pidfd_getfd": (),
        "socket": (socket.AF_INET, socket.SOCK_STREAM), "connect": (), "bind": (), "accept4": (),
        "kill": (PID - 1, 9), "tgkill": (PID - 1, PID - 1, 9), "prlimit64": (1,), "clone": (17,),
        "sendto": (3, 1, 1, 0, 2**32),
        "socketpair": (socket.AF_UNIX, socket.SOCK_DGRAM),
    }  # fmt: skip
    for name, arguments in plain.items():
        assert asked(processor, name, *arguments) == REFUSED, name
    fine = {
        "kill": (PID, 9), "tgkill": (PID, PID, 6), "prlimit64": (0,), "clone": (0x3D0F00,),
        "sendto": (3, 1, 1),
        "socketpair": (socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK),
    }  # fmt: skip
    for name, arguments in fine.items():
        assert asked(processor, name, *arguments) == ALLOWED, name
    # Its arguments lie where no filter sees them; libraries then take ``clone``.
    assert asked(processor, "clone3") == ABSENT


@given(
    processors,
    st.integers(0, 50),
    st.integers(0, 15),
    st.sampled_from([0, socket.SOCK_CLOEXEC, socket.SOCK_NONBLOCK]),
    st.integers(0, 300),
)
def test_sockets_of_a_declared_network(
    processor: Processor, family: int, kind: int, more: int, protocol: int
) -> None:
    plain = family in (socket.AF_INET, socket.AF_INET6) and kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    messages = family == socket.AF_NETLINK and protocol == 0
    said = asked(processor, "socket", family, kind | more, protocol, network=True)
    assert said == (ALLOWED if plain or messages else REFUSED)
    assert asked(processor, "socket", family, kind | more, protocol) == REFUSED
    assert asked(processor, "connect", network=True) == ALLOWED


@given(
    processors,
    st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0x40000003, 0x40000028, 0xC000003E, 0xC00000B7])),
    st.booleans(),
    st.booleans(),
)
def test_who_calls_in_another_way_is_ended_or_refused(
    processor: Processor, architecture: int, network: bool, programs: bool
) -> None:
    steps = program(processor, PID, network=network, programs=programs)
    call = READ[processor.machine]
    same = architecture == processor.architecture
    assert verdict(steps, architecture, call) == (ALLOWED if same else ENDED)
    assert verdict(steps, processor.architecture, call | 0x40000000) == REFUSED


def test_the_kernel_takes_a_filter_of_this_length() -> None:
    for each in PROCESSORS.values():
        for flag in (False, True):
            assert len(program(each, PID, network=flag, programs=not flag)) < 4096

"""The filter of system calls, run as the kernel runs it, for both processors."""

import socket
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servable.runtime.seccomp import Instruction, program
from servable.runtime.syscalls import PROCESSORS, Processor, number

ALLOWED, REFUSED, ABSENT = 0x7FFF0000, 0x00050001, 0x00050026
PID = 4711
READ = {"x86_64": 0, "aarch64": 63}
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


def asked(processor: Processor, name: str, *arguments: int, network: bool = False) -> int:
    call = number(name, processor)
    assert call is not None
    return verdict(program(processor, PID, network=network), processor.architecture, call, *arguments)


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


@given(processors, st.integers(0, 2**32 - 1), st.booleans())
def test_another_way_to_call_is_refused(processor: Processor, architecture: int, network: bool) -> None:
    steps = program(processor, PID, network=network)
    call = READ[processor.machine]
    same = architecture == processor.architecture
    assert verdict(steps, architecture, call) == (ALLOWED if same else REFUSED)
    assert verdict(steps, processor.architecture, call | 0x40000000) == REFUSED


def test_the_kernel_takes_a_filter_of_this_length() -> None:
    assert all(
        len(program(each, PID, network=flag)) < 4096 for each in PROCESSORS.values() for flag in (0, 1)
    )

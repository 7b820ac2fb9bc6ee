"""Landlock: which files a process may open from now on, told to the kernel (Linux 5.13 and later).

A process gives up for good, for itself and whatever it starts, every access to files that no rule allows.
Only the thread that asks is confined, with those that it starts afterwards, so this comes before any library
that starts some. What is open already stays open. Names, sizes and times of files can still be asked for.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterable
from enum import IntFlag
from pathlib import Path
from typing import NamedTuple

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1
_BIND_TCP, _CONNECT_TCP = 1, 2
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2
#: From which version on the kernel knows connections, and what processes send to others.
_NETWORK_SINCE, _SCOPE_SINCE = 4, 6
#: From here on a file cannot be emptied through a name that may only be read.
_COMPLETE_SINCE = 3


class Access(IntFlag):
    """What a rule allows, with the numbers of the kernel."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


READ = Access.READ_FILE | Access.READ_DIR
#: For a folder of one's own; nothing in it can be executed, and it has no devices.
OWN = (
    READ
    | Access.WRITE_FILE
    | Access.REMOVE_DIR
    | Access.REMOVE_FILE
    | Access.MAKE_DIR
    | Access.MAKE_REG
    | Access.MAKE_SOCK
    | Access.MAKE_FIFO
    | Access.MAKE_SYM
    | Access.REFER
    | Access.TRUNCATE
)
DEVICE = Access.READ_FILE | Access.WRITE_FILE | Access.IOCTL_DEV
_OF_FILES = Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV
#: All that the kernel of a version knows.
_KNOWN = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}

_call = ctypes.CDLL(None, use_errno=True).syscall


class Rule(NamedTuple):
    """What may be done with a file, or with everything in a folder.

    Attributes:
        path: of it.
        access: what is allowed.
    """

    path: Path
    access: Access


class Ruleset(NamedTuple):
    """What a process gives up unless a rule allows it.

    Attributes:
        files: kinds of access.
        connections: of TCP, with the numbers of the kernel.
        scope: what reaches other processes, with the numbers of the kernel; 0 for nothing.
        size: bytes of it that the kernel knows.
    """

    files: Access
    connections: int
    scope: int
    size: int

    def packed(self) -> bytes:
        """As the kernel reads it. Older kernels know the first fields only, the size says which."""
        return struct.pack("<QQQ", self.files, self.connections, self.scope)[: self.size]


def ruleset(known: int, *, network: bool) -> Ruleset:
    """The most that can be given up in a kernel; pure.

    Args:
        known: version of Landlock in it, at least 1; what versions after those known here bring is left out.
        network: whether TCP stays allowed.
    """
    return Ruleset(
        Access(_KNOWN[min(known, max(_KNOWN))]),
        _BIND_TCP | _CONNECT_TCP if known >= _NETWORK_SINCE and not network else 0,
        _ABSTRACT_SOCKETS | _SIGNALS if known >= _SCOPE_SINCE else 0,
        8 if known < _NETWORK_SINCE else 16 if known < _SCOPE_SINCE else 24,
    )


def gap(known: int) -> str:
    """What a version of Landlock cannot keep of the files, a part of a sentence; empty for nothing. Pure."""
    if known >= _COMPLETE_SINCE:
        return ""
    if known:
        return "the Landlock of this kernel is too old to keep files from being emptied"
    return "Landlock is not in this kernel"


def keeps_signals(known: int) -> bool:
    """Whether a version of Landlock lets a process signal only what is as confined as it is; pure."""
    return known >= _SCOPE_SINCE


def version() -> int:
    """The version of Landlock in this kernel; 0 where there is none, or it is switched off."""
    return max(int(_call(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION)), 0)


def restrict(rules: Iterable[Rule], *, network: bool) -> int:
    """Give up, for this thread and what it starts, what no rule allows; ``no_new_privs`` must be set.

    Args:
        rules: whose files are not there are passed over.
        network: whether TCP stays allowed.

    Returns:
        The version of Landlock.

    Raises:
        OSError: the kernel cannot, or would not.
    """
    known = version()
    if not known:
        raise OSError(errno.ENOSYS, gap(known))
    wanted = ruleset(known, network=network)
    made = _made(wanted)
    try:
        for path, access in rules:
            _allow(made, path, access & wanted.files)
        _checked(_call(_RESTRICT_SELF, made, 0))
    finally:
        os.close(made)
    return known


def _made(wanted: Ruleset) -> int:
    """A new set of rules, as a descriptor."""
    for scope in (wanted.scope, _ABSTRACT_SOCKETS, 0) if wanted.scope else (0,):
        packed = wanted._replace(scope=scope).packed()
        found = int(_call(_CREATE_RULESET, packed, ctypes.c_size_t(len(packed)), 0))
        # Some kernels say that they know scopes and lack one.
        if found >= 0 or ctypes.get_errno() != errno.EINVAL:
            break
    return _checked(found)


def _allow(made: int, path: Path, access: int) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        # What is not there, or cannot be reached, needs no rule.
        return
    try:
        if not os.path.isdir(f"/proc/self/fd/{beneath}"):  # noqa: PTH112 - a path object would resolve it
            access &= _OF_FILES
        if access:
            _checked(_call(_ADD_RULE, made, _PATH_BENEATH, struct.pack("<Qi", access, beneath), 0))
    finally:
        os.close(beneath)


def _checked(result: int) -> int:
    """What a system call gave.

    Raises:
        OSError: it failed.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result

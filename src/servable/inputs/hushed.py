"""C libraries that write lines about damaged files to the standard error output, without these lines.

Such lines are written by way of the variable ``stderr`` of the C library. Another file in its place takes
them; the descriptor itself is not touched, so that nothing that Python writes is lost meanwhile. What other C
code of the process writes at that moment is, which is why this is entered only while one file is read.
"""

import ctypes
import functools
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Hush:
    """The variable and what stands in it. Safe to share between threads.

    Args:
        variable: holds the address of the C library's file.
        nowhere: the address of a file that keeps nothing.
    """

    def __init__(self, variable: Any, nowhere: int) -> None:
        self._variable, self._nowhere, self._usual = variable, nowhere, variable.value
        self._lock = threading.Lock()
        self._inside = 0

    def enter(self) -> None:
        """One more reads."""
        with self._lock:
            self._inside += 1
            self._variable.value = self._nowhere

    def leave(self) -> None:
        """One less does; the last puts everything back."""
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._variable.value = self._usual


@functools.cache
def _hush() -> _Hush | None:
    """None where the variable cannot be set: only glibc documents it as one."""
    if platform.libc_ver()[0] != "glibc":
        return None
    try:
        library = ctypes.CDLL(None)
        variable = ctypes.c_void_p.in_dll(library, "stderr")
        library.fopen.restype = ctypes.c_void_p
        nowhere = library.fopen(b"/dev/null", b"w")
    except (AttributeError, OSError, ValueError):
        return None
    return _Hush(variable, nowhere) if nowhere and variable.value else None


def possible() -> bool:
    """Whether C libraries can be made silent here."""
    return _hush() is not None


@contextmanager
def hushed() -> Iterator[None]:
    """While this is entered, C libraries say nothing where ``possible``."""
    hush = _hush()
    if hush is None:
        yield
        return
    hush.enter()
    try:
        yield
    finally:
        hush.leave()

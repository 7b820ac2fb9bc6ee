"""How a conformance check says what is broken; unlike ``assert`` it also holds under ``python -O``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def expect(holds: bool, promise: str) -> None:
    """Go on if the promise holds.

    Raises:
        AssertionError: it does not; the message is the promise.
    """
    if not holds:
        raise AssertionError(f"broken promise: {promise}")


@contextmanager
def expect_error(kind: type[BaseException], promise: str) -> Iterator[None]:
    """The block must raise ``kind``.

    Raises:
        AssertionError: it raised nothing, or something else.
    """
    try:
        yield
    except kind:
        return
    except Exception as other:
        # Whatever else came is the finding itself.
        raise AssertionError(f"broken promise: {promise}; it raised {type(other).__name__}") from other
    raise AssertionError(f"broken promise: {promise}; it raised nothing")


def outcome_of(work: Callable[[], Any]) -> Any:
    """What a call returned, or the exception that it raised."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - the caller looks at whatever came
        return error

"""Answers that come in parts: bytes to predictions and pieces, each as soon as it is whole. Pure."""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

import httpx
import msgspec

from servable.client import replies
from servable.client.results import Prediction

P = TypeVar("P", bound=Prediction)
P_co = TypeVar("P_co", bound=Prediction, covariant=True)

EVENTS = "text/event-stream"
#: Asks for answers line by line, and takes them all at once from a server that does not know it.
LINES = "application/x-ndjson, application/jsonl;q=0.9, application/json;q=0.5"
#: Asks for pieces, best as events: they have an end, so that nothing cut off is taken for whole.
PIECES = f"{EVENTS}, application/x-ndjson;q=0.5"
_LINE_TYPES = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/jsonlines"}
)


class Parts(Protocol[P_co]):
    """Reads one answer that comes in parts.

    Both methods raise ``RemoteError`` for an error in the place of a part, ``msgspec.MsgspecError`` or
    ``UnicodeDecodeError`` for something that is none of Servable's, and ``httpx.RemoteProtocolError`` for an
    answer that was cut off.
    """

    def feed(self, data: bytes) -> Iterator[P_co]:
        """The parts that are whole with these bytes; all of them must be taken."""
        ...

    def finish(self) -> Iterator[P_co]:
        """What is left when no more bytes come."""
        ...


def of_lines(headers: httpx.Headers, record: type[P]) -> Parts[P] | None:
    """What reads a good answer in JSON lines; None for one of another content type."""
    return _Lines(headers, record) if _media_type(headers) in _LINE_TYPES else None


def of_pieces(headers: httpx.Headers, record: type[P]) -> Parts[P] | None:
    """What reads a good answer in pieces, as events or lines; None for one of another content type."""
    return _Events(headers, record) if _media_type(headers) == EVENTS else of_lines(headers, record)


def _media_type(headers: httpx.Headers) -> str:
    return str(headers.get("content-type", "")).partition(";")[0].strip().lower()


class _Cutter:
    """Cuts bytes into lines at line feeds alone: JSON may hold the other ends of lines that Unicode knows."""

    def __init__(self) -> None:
        self._begun: list[bytes] = []

    def whole(self, data: bytes) -> list[bytes]:
        """The lines that end in these bytes, without their ends."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._begun, lines[0]])
            self._begun = []
        self._begun.append(rest)
        return [line.removesuffix(b"\r") for line in lines]


class _Reader(Generic[P]):
    """What lines and events have in common.

    Args:
        headers: of the response; they say who answered where a part does not.
        record: what a part becomes.
    """

    def __init__(self, headers: httpx.Headers, record: type[P]) -> None:
        version = headers.get("x-model-version", "")
        self._model = headers.get("x-model-name", "")
        self._version = int(version) if version.isdecimal() else 0
        self._request_id = headers.get("x-request-id", "")
        self._record = record
        self._cutter = _Cutter()

    def _read(self, text: bytes) -> P:
        """One part.

        Raises:
            RemoteError: it is an error; what came before stays answered.
            msgspec.MsgspecError: it is something else.
        """
        content = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        if "error" in content:
            raise replies.error_within(text, self._request_id)
        if "prediction" not in content:
            raise msgspec.ValidationError("no 'prediction' in a part of the answer")
        found = msgspec.json.decode(text, type=self._record)
        return msgspec.structs.replace(
            found,
            model=found.model or self._model,
            version=found.version or self._version,
            request_id=found.request_id or self._request_id,
        )


class _Lines(_Reader[P]):
    """A part on each line; implements ``Parts``."""

    def feed(self, data: bytes) -> Iterator[P]:
        """See ``Parts``."""
        for line in self._cutter.whole(data):
            if line.strip():
                yield self._read(line)

    def finish(self) -> Iterator[P]:
        """See ``Parts``; the last line needs no end."""
        yield from self.feed(b"\n")


class _Events(_Reader[P]):
    """A part in each server-sent event without a name; implements ``Parts``.

    The HTML standard defines events; those of other names than ``error`` and ``end`` are passed over.
    """

    def __init__(self, headers: httpx.Headers, record: type[P]) -> None:
        super().__init__(headers, record)
        self._name = b""
        self._data: list[bytes] = []
        self._ended = False

    def feed(self, data: bytes) -> Iterator[P]:
        """See ``Parts``."""
        for line in self._cutter.whole(data):
            field, _, value = line.partition(b":")
            if field == b"event":
                self._name = value.removeprefix(b" ")
            elif field == b"data":
                self._data.append(value.removeprefix(b" "))
            elif not line:
                yield from self._event()

    def finish(self) -> Iterator[P]:
        """See ``Parts``."""
        if not self._ended:
            raise httpx.RemoteProtocolError("it ended before the event that says so")
        return iter(())

    def _event(self) -> Iterator[P]:
        name, text = self._name, b"\n".join(self._data)
        self._name, self._data = b"", []
        self._ended = self._ended or name == b"end"
        if text and name in (b"", b"message", b"error"):
            yield self._read(text)

"""Forms of several parts, as browsers and ``curl -F`` send them, to the parts. Pure."""

import re
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from servable.errors import RequestMalformed, RequestTooLarge
from servable.protocols.base import NO_HEAD, Head, media_type_of

#: The content type of a form.
FORM = "multipart/form-data"
#: More parts than any form of ours has uses for.
MOST_PARTS = 1_000
#: Most headers of one part, and most bytes of them.
_MOST_HEADERS, _MOST_HEADER_BYTES = 8, 4096
#: As RFC 2046 limits it.
_LONGEST_BOUNDARY = 70
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")


class Part(NamedTuple):
    """One part of a form.

    Attributes:
        options: what the form says of it: ``name`` and perhaps ``filename``, as they came.
        head: its content type, as the head of a request of its own.
        body: its bytes.
    """

    options: dict[bytes, bytes]
    head: Head
    body: bytes

    @property
    def name(self) -> str:
        """Of its field; empty when it has none, and with marks in place of what is no UTF-8."""
        return self.options.get(b"name", b"").decode("utf-8", "replace")

    @property
    def media_type(self) -> str:
        """Its own content type in small letters, without parameters; empty when it has none."""
        return media_type_of(self.head)


def parts_of(body: bytes, content_type: bytes, most: int = MOST_PARTS) -> list[Part]:
    """The parts of a form in order.

    Args:
        body: the whole form.
        content_type: of the request, which names the boundary.
        most: how many parts may come.

    Raises:
        RequestMalformed: no boundary is named, or the body is no form of it, or it is cut short.
        RequestTooLarge: it holds more parts than may come.
    """
    collected = _Collected(most)
    parser = MultipartParser(
        _boundary(content_type),
        {
            "on_part_begin": collected.begin,
            "on_header_field": collected.header_name,
            "on_header_value": collected.header_value,
            "on_header_end": collected.header_end,
            "on_part_data": collected.data,
            "on_part_end": collected.end,
            "on_end": collected.close,
        },
        max_header_count=_MOST_HEADERS,
        max_header_size=_MOST_HEADER_BYTES,
    )
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise RequestMalformed("The body is no form of the boundary that its Content-Type names.") from error
    if not collected.closed:
        raise RequestMalformed("The form is cut short; send it with its last boundary.")
    return collected.parts


def _boundary(content_type: bytes) -> bytes:
    found = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not _BOUNDARY.fullmatch(found):
        raise RequestMalformed(
            f"The Content-Type of a form needs a boundary of 1 to {_LONGEST_BOUNDARY} plain characters."
        )
    return found


class _Collected:
    """What the parser calls."""

    def __init__(self, most: int) -> None:
        self.parts: list[Part] = []
        self.closed = False
        self._most = most
        self._name = bytearray()
        self._value = bytearray()
        self._headers: dict[bytes, bytes] = {}
        self._data: list[bytes] = []

    def begin(self) -> None:
        """A part begins."""
        if len(self.parts) >= self._most:
            raise RequestTooLarge(f"The form holds more than {self._most} parts; send fewer.")
        self._headers, self._data = {}, []

    def header_name(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's name."""
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's value."""
        self._value += data[start:end]

    def header_end(self) -> None:
        """A header is whole."""
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def data(self, data: bytes, start: int, end: int) -> None:
        """A piece of the part's bytes."""
        self._data.append(data[start:end])

    def end(self) -> None:
        """The part is whole."""
        options = parse_options_header(self._headers.get(b"content-disposition", b""))[1]
        given = self._headers.get(b"content-type")
        head = NO_HEAD if given is None else {b"content-type": given}
        self.parts.append(Part(options, head, b"".join(self._data)))

    def close(self) -> None:
        """The form is whole."""
        self.closed = True

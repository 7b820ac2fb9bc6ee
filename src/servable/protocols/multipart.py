"""Forms of several parts, as browsers and ``curl -F`` send them, to the parts. Pure."""

from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from servable.errors import RequestMalformed
from servable.protocols.base import NO_HEAD, Head

#: The content type of a form.
FORM = "multipart/form-data"
#: More parts than any form of ours has uses for.
_MOST_PARTS = 1_000


class Part(NamedTuple):
    """One part of a form.

    Attributes:
        name: of its field.
        head: its content type, as the head of a request of its own.
        body: its bytes.
    """

    name: str
    head: Head
    body: bytes


def parts_of(body: bytes, content_type: bytes) -> list[Part]:
    """The parts of a form in order.

    Args:
        body: the whole form.
        content_type: of the request, which names the boundary.

    Raises:
        RequestMalformed: no boundary is named, or the body is no form of it, or it holds too many parts.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary or len(boundary) > 70:
        raise RequestMalformed("The content type of a form must name its boundary, in up to 70 characters.")
    collected = _Collected()
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": collected.begin,
            "on_header_field": collected.header_name,
            "on_header_value": collected.header_value,
            "on_header_end": collected.header_end,
            "on_part_data": collected.data,
            "on_part_end": collected.end,
            "on_end": collected.close,
        },
    )
    try:
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise RequestMalformed("The body is no form of the boundary that its content type names.") from error
    if not collected.closed:
        raise RequestMalformed("The form ends before its last part does.")
    return collected.parts


class _Collected:
    """What the parser calls."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.closed = False
        self._name = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._data: list[bytes] = []

    def begin(self) -> None:
        """A part begins."""
        if len(self.parts) >= _MOST_PARTS:
            raise RequestMalformed(f"The form holds more than {_MOST_PARTS} parts; send fewer.")
        self._headers, self._data = {}, []

    def header_name(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's name."""
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        """A piece of a header's value."""
        self._value += data[start:end]

    def header_end(self) -> None:
        """A header is whole."""
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def data(self, data: bytes, start: int, end: int) -> None:
        """A piece of the part's bytes."""
        self._data.append(data[start:end])

    def end(self) -> None:
        """The part is whole."""
        options = parse_options_header(self._headers.get(b"content-disposition", b""))[1]
        given = self._headers.get(b"content-type")
        head = NO_HEAD if given is None else {b"content-type": given}
        self.parts.append(
            Part(options.get(b"name", b"").decode("utf-8", "replace"), head, b"".join(self._data))
        )

    def close(self) -> None:
        """The form is whole."""
        self.closed = True

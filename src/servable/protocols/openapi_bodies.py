"""The content types besides JSON, as the OpenAPI document tells of them. Pure."""

from typing import Any

from servable.artifact.signature import Signature
from servable.protocols.answer_forms import ARROW, CSV, EVENTS, FORMS, JSON, LINES, MSGPACK, PARQUET
from servable.protocols.codecs import FORM, NPY, RAW, read_types
from servable.protocols.files import lone_file
from servable.protocols.native_array import WholeArray

#: The content types of bodies besides JSON, in words.
_BODIES = {
    LINES: "One row as JSON on each line; the answers come line by line, as they are ready.",
    CSV: "Records as RFC 4180 has them, in UTF-8; the first line may name the columns in any order.",
    ARROW: "Record batches as an Arrow IPC stream; columns by name.",
    PARQUET: "A Parquet file; columns by name.",
    MSGPACK: "The same as application/json, in MessagePack.",
    FORM: "The columns of one row as fields, or one file of any of the other content types.",
}
_TEXTS = frozenset({LINES, CSV, EVENTS})
_FILE = "The bytes of one file, which are one row."
#: The forms of an answer besides JSON, in words.
_ANSWERS = {
    LINES: "The answer to each row on a line of its own.",
    CSV: "The answers as records, with a first line of names.",
    ARROW: "The answers as an Arrow IPC stream.",
    PARQUET: "The answers as a Parquet file.",
    NPY: "The predictions as one array.",
    MSGPACK: "The same as application/json, in MessagePack.",
    EVENTS: "The answer to each row as an event, and an event named end.",
}
#: The forms of an answer in pieces, in words.
_PIECES = {
    EVENTS: "Each piece as an event without a name; then an event named end, or error with an Error.",
    LINES: "Each piece on a line of its own; what goes wrong in the middle is the last line, an Error.",
}


def other_bodies(signature: Signature) -> dict[str, Any]:
    """The content types besides JSON; what no JSON schema describes says its form in words."""
    whole = WholeArray.of(signature)
    words = (
        _BODIES
        if whole is None
        else {
            **_BODIES,
            RAW: f"Little-endian bytes, one row after the other; a row is {whole.words}.",
            NPY: f"One array as numpy.save writes it; a row is {whole.words}.",
        }
    )
    if lone_file(signature) is not None:
        words = {
            **words,
            RAW: f"The bytes of one file, or else: {words[RAW]}" if RAW in words else _FILE,
            FORM: "Files, one a row; or one file of any of the other content types.",
        }
    bodies: dict[str, Any] = {
        media_type: {"schema": {**_schema(media_type), "description": words.get(media_type, _FILE)}}
        for media_type in read_types(signature)
        if media_type != JSON
    }
    return bodies


def other_answers() -> dict[str, Any]:
    """The forms besides JSON in which the header Accept may ask for the answer."""
    return {
        form: {"schema": {**_schema(form), "description": _ANSWERS[form]}} for form in FORMS if form != JSON
    }


def pieces() -> dict[str, Any]:
    """The forms of an answer in pieces, with the schema of the whole text."""
    return {form: {**_schema(form), "description": words} for form, words in _PIECES.items()}


def _schema(media_type: str) -> dict[str, Any]:
    if media_type == FORM:
        return {"type": "object"}
    return {"type": "string"} if media_type in _TEXTS else {"type": "string", "format": "binary"}

"""OpenAI's completions and chat completions, compiled for one signature: one text in, one text out.

The messages of a chat become one prompt by a plain template, one message after the other and the turn of
the assistant at the end::

    system: You are brief.
    user: Good morning.
    assistant:

What would change the form of the answer and cannot be had from such a model (several choices,
probabilities of tokens, tools) is refused; what only steers the making of it (``temperature``,
``max_tokens`` and their like) is accepted and means nothing. ``stop`` ends a text where it says.
"""

import copy
from typing import Any

import msgspec

from servable.artifact.signature import Signature
from servable.errors import FieldProblem, RequestInvalid, ServableError
from servable.protocols.base import NO_HEAD, CodecLimits, Encoded, Head
from servable.protocols.native_schema import shown
from servable.protocols.openai import JSON, TextInput, error_body, invalid, is_text, parse
from servable.protocols.openai_answers import (
    CHAT,
    COMPLETION,
    DONE,
    EVENTS,
    ChunkWriter,
    Form,
    TextAnswer,
    Wish,
    texts_of,
    until,
    usage_of,
)
from servable.tensors import Body, Request, Response

_ROLES = ("developer", "system", "user", "assistant")
#: Keys that change the answer's form, and the values that ask for nothing.
_REFUSED: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "best_of": (None, 1),
    "echo": (None, False),
    "logprobs": (None, False, 0),
    "top_logprobs": (None, 0),
    "suffix": (None, ""),
    "tools": (None, []),
    "functions": (None, []),
    "audio": (None,),
    "modalities": (None, ["text"]),
    "response_format": (None, {"type": "text"}),
}
_MOST_STOPS = 4
_encode = msgspec.json.Encoder().encode


class TextCodec:
    """Completions in one of both forms for one signature. Immutable and safe to share.

    Args:
        signature: what the model takes and gives; one that does not fit is refused by ``decode``.
        limits: what is refused.
        form: of chats, or of completions.
    """

    media_type = JSON

    def __init__(self, signature: Signature, limits: CodecLimits | None = None, form: Form = CHAT) -> None:
        limits = limits or CodecLimits()
        self._form = form
        self._max_depth = limits.max_depth
        self._input = TextInput(signature, limits.max_rows)
        self._fits = self._input.texts and len(signature.outputs) == 1 and is_text(signature.outputs[0])
        self._created = 0

    def at(self, created: int) -> "TextCodec":
        """The same codec, whose answers say that they were made then, in seconds since 1970."""
        made = copy.copy(self)
        made._created = created
        return made

    # ------------------------------------------------------------------ decoding

    def decode(self, body: Body, request_id: str, head: Head = NO_HEAD) -> Request:
        """Bytes to a Request.

        Raises:
            RequestMalformed: not JSON, nested too deeply, or not an object.
            RequestInvalid: the values do not fit, or the model does not turn texts into texts.
            RequestTooLarge: more prompts than allowed.
        """
        content = parse(body, self._max_depth)
        if not self._fits:
            expected = "a model that turns one text into one text"
            raise invalid("model", expected, "a model of other inputs or outputs")
        for key, harmless in _REFUSED.items():
            if key in content and content[key] not in harmless:
                words = "nothing" if len(harmless) == 1 else f"nothing or {_encode(harmless[1]).decode()}"
                raise invalid(key, f"{words}, because this model gives one plain text", shown(content[key]))
        stream = _flag(content, "stream", "stream")
        options = content.get("stream_options")
        if options is not None and not isinstance(options, dict):
            raise invalid("stream_options", "an object", shown(options))
        usage = _flag(options or {}, "include_usage", "stream_options.include_usage")
        stops = _stops(content.get("stop"))
        if self._form.chat:
            arrays, rows, tokens = self._input.read(prompt_of(content.get("messages")), "messages")
        else:
            arrays, rows, tokens = self._input.read(content.get("prompt"), "prompt")
        return Request(arrays, rows, request_id, wish=Wish(stream, usage, stops, tokens))

    # ------------------------------------------------------------------ encoding

    def encode(self, response: Response) -> bytes | Encoded:
        """The texts: one object, or the whole row of events.

        Raises:
            ValueError: another number of texts than of rows.
        """
        wish: Wish = response.wish or Wish()
        texts = [until(text, wish.stops) for text in texts_of(response)]
        answer = TextAnswer(
            self._form,
            f"{self._form.prefix}{response.id}",
            self._created,
            f"{response.model}:{response.version}",
        )
        usage = usage_of(wish.tokens, texts)
        if not wish.stream:
            return _encode(answer.whole(texts, usage))
        events = list(answer.events(texts, usage if wish.usage else None))
        return Encoded(b"".join(events), EVENTS)

    def encode_error(self, error: ServableError, request_id: str) -> bytes:
        """As OpenAI words them."""
        return error_body(error, request_id)

    def writer(self, request: Request, model: str, version: int) -> "ChunkWriter":
        """The events of an answer whose text comes in pieces; see ``base.PieceCodec``."""
        answer = TextAnswer(
            self._form, f"{self._form.prefix}{request.id}", self._created, f"{model}:{version}"
        )
        return ChunkWriter(answer, request.wish or Wish(), request.id)


def wants_pieces(body: Body) -> bool:
    """Whether a body asks for events; what is wrong with it is found when it is read."""
    try:
        return msgspec.json.decode(body, type=_Streams).stream is True
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False


class _Streams(msgspec.Struct):
    stream: Any = None


def prompt_of(messages: Any) -> str:
    """The messages of a chat as one prompt; see the module.

    Raises:
        RequestInvalid: they are no list of messages with texts; every problem is named.
    """
    if not isinstance(messages, list) or not messages:
        got = "nothing (it is missing)" if messages is None else shown(messages)
        raise invalid("messages", "a list of at least one message", got)
    lines: list[str] = []
    problems: list[FieldProblem] = []
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        if not isinstance(message, dict):
            problems.append(FieldProblem(place, 'an object {"role", "content"}', shown(message)))
            continue
        role = message.get("role")
        if role not in _ROLES:
            problems.append(FieldProblem(f"{place}.role", f"one of {', '.join(_ROLES)}", shown(role)))
        content = _content(message.get("content"), f"{place}.content", problems)
        lines.append(f"{role}: {content}")
        if len(problems) > 100:
            break
    if problems:
        raise RequestInvalid(problems)
    return "\n".join([*lines, "assistant:"])


def _content(content: Any, place: str, problems: list[FieldProblem]) -> str:
    """The text of a message: itself, or its parts one after the other."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        problems.append(FieldProblem(place, "a text, or a list of parts of text", shown(content)))
        return ""
    texts = []
    for index, part in enumerate(content[:10_000]):
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if isinstance(text, str):
            texts.append(text)
        else:
            problems.append(FieldProblem(f"{place}[{index}]", "a part of text", shown(part)))
            break
    return "".join(texts)


def _flag(content: dict[str, Any], key: str, place: str) -> bool:
    value = content.get(key)
    if value is not None and not isinstance(value, bool):
        raise invalid(place, "true or false", shown(value))
    return bool(value)


def _stops(given: Any) -> tuple[str, ...]:
    stops = [given] if isinstance(given, str) else given
    if stops is None:
        return ()
    if not isinstance(stops, list) or len(stops) > _MOST_STOPS or not all(map(_is_stop, stops)):
        raise invalid("stop", f"a text, or up to {_MOST_STOPS} of them, none of them empty", shown(given))
    return tuple(stops)


def _is_stop(text: Any) -> bool:
    return isinstance(text, str) and bool(text)


__all__ = [
    "CHAT",
    "COMPLETION",
    "DONE",
    "EVENTS",
    "Form",
    "TextAnswer",
    "TextCodec",
    "Wish",
    "prompt_of",
    "wants_pieces",
]

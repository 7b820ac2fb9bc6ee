"""The texts of OpenAI's completions as objects and events: whole, or in pieces as a model makes them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np

from servable.errors import ServableError
from servable.protocols.openai import error_body
from servable.tensors import Response

EVENTS = "text/event-stream"
DONE = b"data: [DONE]\n\n"
_encode = msgspec.json.Encoder().encode


class Wish(NamedTuple):
    """What a caller asks of a text.

    Attributes:
        stream: whether it comes as events.
        usage: whether the last event counts tokens.
        stops: texts at which it ends, without them.
        tokens: counted in the request.
    """

    stream: bool = False
    usage: bool = False
    stops: tuple[str, ...] = ()
    tokens: int = 0


class Form(NamedTuple):
    """What is different between both addresses.

    Attributes:
        chat: whether there are messages.
        whole: the kind of a whole answer.
        chunk: the kind of an event.
        prefix: of ids.
    """

    chat: bool
    whole: str
    chunk: str
    prefix: str


CHAT = Form(True, "chat.completion", "chat.completion.chunk", "chatcmpl-")
COMPLETION = Form(False, "text_completion", "text_completion", "cmpl-")


class ChunkWriter:
    """Implements ``base.Writer``. What may be the beginning of a stop is held back.

    Several texts come whole.

    Args:
        answer: makes the events.
        wish: of the caller.
        request_id: of the request.
    """

    media_type: str = EVENTS
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def __init__(self, answer: "TextAnswer", wish: Wish, request_id: str) -> None:
        self._answer = answer
        self._wish = wish
        self._request_id = request_id
        self._begun = False
        self._stopped = False
        self._several = False
        self._held = ""
        self._told: list[str] = []

    def piece(self, response: Response) -> bytes:
        """The event of a piece; nothing after a stop, and nothing for what is held back.

        Raises:
            ValueError: another number of texts than of rows.
        """
        if response.rows > 1:
            return self._whole(response)
        begin = self._begin()
        if self._stopped:
            return begin
        text = self._held + texts_of(response)[0]
        ends = [place for stop in self._wish.stops if (place := text.find(stop)) >= 0]
        keep = min(ends) if ends else len(text) - self._doubtful(text)
        self._stopped = bool(ends)
        self._held = "" if ends else text[keep:]
        return begin + self._say(text[:keep])

    def end(self) -> bytes:
        """What was held back, the closing, the count where it was asked for, and the mark of the end."""
        counted = self._wish.usage
        last = b""
        if not self._several:
            last = self._begin() + self._say(self._held) + self._answer.closing(0, counted=counted)
        usage = self._answer.usage(usage_of(self._wish.tokens, self._told)) if counted else b""
        return last + usage + DONE

    def fail(self, error: ServableError) -> bytes:
        """An event with the error, without the mark of the end."""
        return b"data: " + error_body(error, self._request_id) + b"\n\n"

    def _whole(self, response: Response) -> bytes:
        self._several = True
        self._told = [until(text, self._wish.stops) for text in texts_of(response)]
        return b"".join(self._answer.choices(self._told, counted=self._wish.usage))

    def _begin(self) -> bytes:
        begun, self._begun = self._begun, True
        if begun or not self._answer.form.chat:
            return b""
        return self._answer.opening(0, counted=self._wish.usage)

    def _say(self, text: str) -> bytes:
        if not text:
            return b""
        self._told.append(text)
        return self._answer.piece(0, text, counted=self._wish.usage)

    def _doubtful(self, text: str) -> int:
        """How many of the last characters may be the beginning of a stop."""
        longest = max((len(stop) for stop in self._wish.stops), default=1) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._wish.stops):
                return size
        return 0


class TextAnswer(NamedTuple):
    """Makes the objects and events of one answer; a model that gives its text in pieces calls ``piece``.

    Attributes:
        form: of chats, or of completions.
        id: of the answer.
        created: seconds since 1970.
        model: that answered.
    """

    form: Form
    id: str
    created: int
    model: str

    def whole(self, texts: list[str], usage: dict[str, int]) -> dict[str, Any]:
        """The answer as one object."""
        choices: list[dict[str, Any]] = []
        for index, text in enumerate(texts):
            said: dict[str, Any] = {"text": text}
            if self.form.chat:
                said = {"message": {"role": "assistant", "content": text, "refusal": None}}
            choices.append({"index": index, **said, "logprobs": None, "finish_reason": "stop"})
        return {**self._outline(self.form.whole), "choices": choices, "usage": usage}

    def events(self, texts: list[str], usage: dict[str, int] | None) -> Iterator[bytes]:
        """The answer as events, each text in one piece.

        Args:
            texts: one for each prompt.
            usage: told in an event of its own; None for no such event.
        """
        yield from self.choices(texts, counted=usage is not None)
        if usage is not None:
            yield self.usage(usage)
        yield DONE

    def choices(self, texts: list[str], *, counted: bool) -> Iterator[bytes]:
        """The events of whole texts."""
        for index, text in enumerate(texts):
            if self.form.chat:
                yield self.opening(index, counted=counted)
            yield self.piece(index, text, counted=counted)
            yield self.closing(index, counted=counted)

    def usage(self, usage: dict[str, int]) -> bytes:
        """The event that counts."""
        return _event({**self._outline(self.form.chunk), "choices": [], "usage": usage})

    def opening(self, index: int, *, counted: bool) -> bytes:
        """The event before the first piece of a chat."""
        return self._choice(index, {"delta": {"role": "assistant", "content": ""}}, None, counted=counted)

    def piece(self, index: int, text: str, *, counted: bool) -> bytes:
        """The event of a piece."""
        said: dict[str, Any] = {"delta": {"content": text}} if self.form.chat else {"text": text}
        return self._choice(index, said, None, counted=counted)

    def closing(self, index: int, *, counted: bool) -> bytes:
        """The event after the last piece."""
        said: dict[str, Any] = {"delta": {}} if self.form.chat else {"text": ""}
        return self._choice(index, said, "stop", counted=counted)

    def _choice(self, index: int, said: dict[str, Any], reason: str | None, *, counted: bool) -> bytes:
        choice = {"index": index, **said, "logprobs": None, "finish_reason": reason}
        # Where the last event counts, the others say that they do not.
        more = {"usage": None} if counted else {}
        return _event({**self._outline(self.form.chunk), "choices": [choice], **more})

    def _outline(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + _encode(content) + b"\n\n"


def until(text: str, stops: tuple[str, ...]) -> str:
    """A text up to where the first of the stops begins."""
    ends = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


def texts_of(response: Response) -> list[str]:
    """The texts of a model's answer.

    Raises:
        ValueError: another number of texts than of rows.
    """
    found = np.ravel(next(iter(response.arrays.values()))).tolist()
    if len(found) != response.rows:
        raise ValueError("another number of texts than of rows")
    return [text if isinstance(text, str) else str(text) for text in found]


def usage_of(asked: int, texts: list[str]) -> dict[str, int]:
    """How many tokens there were, counted in words."""
    told = sum(len(text.split()) for text in texts)
    return {"prompt_tokens": asked, "completion_tokens": told, "total_tokens": asked + told}

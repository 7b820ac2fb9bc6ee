"""Structured logging: one line per event on standard error, as text for people or JSON for machines.

An event is a short fixed sentence with named values::

    log.info("model loaded", extra=fields(model="iris"))

Nothing that a caller sent is ever logged: no rows, no answers, no headers except the request id. That holds
for errors, too: what a model or a library says when it fails often quotes the row, so that of an exception
the log keeps the type and the places in the code, and never the words.
"""

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

#: The root of all loggers of this package.
ROOT = "servable"
_FIELDS = "servable_fields"


def logger(part: str) -> logging.Logger:
    """The logger of a part, for instance ``serving``."""
    return logging.getLogger(f"{ROOT}.{part}")


def fields(**values: Any) -> dict[str, Any]:
    """Named values for ``extra=``; they appear as keys in JSON and as ``key=value`` in text."""
    return {_FIELDS: values}


def places(raised: BaseException) -> str:
    """Where an exception came from, and those that led to it: files, lines, functions and types, no words.

    Args:
        raised: as it was caught.

    Returns:
        The lines of a traceback, without a last line break.
    """
    lines: list[str] = []
    seen: set[int] = set()
    one: BaseException | None = raised
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        if lines:
            lines.append("which came of:")
        lines += [line.rstrip("\n") for line in traceback.format_tb(one.__traceback__)]
        lines.append(f"{type(one).__module__}.{type(one).__qualname__}".removeprefix("builtins."))
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "\n".join(lines)


def _said(record: logging.LogRecord) -> str:
    """What an event says. Further lines of asyncio's show the objects that it was about, rows among them."""
    message = record.getMessage()
    return message if record.name.startswith(ROOT) else message.partition("\n")[0]


def _traceback(record: logging.LogRecord) -> str:
    raised = record.exc_info[1] if record.exc_info else None
    return places(raised) if raised is not None else ""


class JsonFormatter(logging.Formatter):
    """One JSON object per event: ``time level logger message`` and the named values."""

    def format(self, record: logging.LogRecord) -> str:
        """The event as one line."""
        event: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _said(record),
        }
        event.update(getattr(record, _FIELDS, {}))
        if record.exc_info:
            event["traceback"] = _traceback(record)
        return msgspec.json.encode(event, enc_hook=str).decode()


class TextFormatter(logging.Formatter):
    """``12:00:00 info  message key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """The event as one line; a traceback follows on its own lines."""
        moment = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        named = "".join(f" {key}={value}" for key, value in getattr(record, _FIELDS, {}).items())
        line = f"{moment} {record.levelname.lower():<7} {_said(record)}{named}".replace("\n", " ")
        return f"{line}\n{_traceback(record)}" if record.exc_info else line


def configure(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send the package's events to a stream; replaces what an earlier call configured.

    Args:
        level: ``debug info warning error``.
        form: ``text`` or ``json``.
        stream: standard error when None.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    for name in (ROOT, "asyncio"):
        target = logging.getLogger(name)
        target.handlers = [handler]
        target.propagate = False
        target.setLevel(level.upper() if name == ROOT else logging.WARNING)

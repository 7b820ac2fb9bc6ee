"""Structured logging: one line per event on standard error, as text for people or JSON for machines.

An event is a short fixed sentence with named values::

    log.info("model loaded", extra=fields(model="iris"))

Nothing that a caller sent is ever logged: no rows, no answers, no headers except the request id.
"""

import logging
import sys
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


class JsonFormatter(logging.Formatter):
    """One JSON object per event: ``time level logger message`` and the named values."""

    def format(self, record: logging.LogRecord) -> str:
        """The event as one line."""
        event: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        event.update(getattr(record, _FIELDS, {}))
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(event, enc_hook=str).decode()


class TextFormatter(logging.Formatter):
    """``12:00:00 info  message key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """The event as one line; a traceback follows on its own lines."""
        moment = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")
        named = "".join(f" {key}={value}" for key, value in getattr(record, _FIELDS, {}).items())
        line = f"{moment} {record.levelname.lower():<7} {record.getMessage()}{named}".replace("\n", " ")
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


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

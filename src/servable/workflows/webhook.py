"""Telling another program of an alert: one signed POST, tried again for a few seconds and no longer."""

import hashlib
import hmac
import time
from collections.abc import Callable
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from servable.clock import Clock
from servable.logs import fields, logger
from servable.monitoring.alerts import Event

_log = logger("alerts")
#: Seconds that one try may take to connect, to send and to be answered, each.
TIMEOUT_S = 2.0
#: Seconds between the tries of one call.
PAUSES_S = (0.25, 0.5)
SIGNATURE, EVENT = "Servable-Signature", "Servable-Event"
#: Statuses after which trying again may help, besides all from 500 on.
_LATER = frozenset({408, 425, 429})

Outcome = Literal["delivered", "refused", "later"]


class Webhook(NamedTuple):
    """Where alerts are told.

    Attributes:
        url: an address that takes a POST.
        secret: what the signature is made with; empty: nothing is signed.
    """

    url: str
    secret: str = ""


def signature(secret: str, body: bytes, moment: datetime) -> str:
    """The value of ``Servable-Signature``: ``t=SECONDS,v1=HEX``.

    The HMAC-SHA256 is of the seconds, a dot and the body, so that an old message cannot be sent as a new one.
    """
    seconds = int(moment.timestamp())
    signed = hmac.new(secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={signed}"


def deliver(
    webhook: Webhook, event: Event, clock: Clock, *, until: float, wait: Callable[[float], None] = time.sleep
) -> Outcome:
    """Post one event, a few times if need be.

    Args:
        webhook: where to.
        event: what; its ``id`` travels as ``Servable-Event``, so that who gets it twice can tell.
        clock: dates the signature and ends the tries.
        until: no try begins after this moment of ``clock.monotonic``.
        wait: pauses between tries.

    Returns:
        ``delivered``; ``refused``: the other side does not want it and never will; ``later``: it may.
    """
    import httpx

    body = msgspec.json.encode(event)
    # One client for all tries; nothing is followed anywhere else, and of an answer only its head is read.
    with httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client:
        for pause in (*PAUSES_S, None):
            try:
                with client.stream(
                    "POST", webhook.url, content=body, headers=_headers(webhook, event, body, clock)
                ) as answer:
                    status = answer.status_code
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                status = 0
                _log.info("webhook did not answer", extra=fields(reason=type(error).__name__))
            if 200 <= status < 300:
                return "delivered"
            if 300 <= status < 500 and status not in _LATER:
                _log.warning("webhook refused an alert", extra=fields(status=status, alert=event.alert))
                return "refused"
            if pause is None or clock.monotonic() + pause > until:
                break
            wait(pause)
    return "later"


def _headers(webhook: Webhook, event: Event, body: bytes, clock: Clock) -> dict[str, str]:
    headers = {"Content-Type": "application/json", EVENT: event.id}
    if webhook.secret:
        headers[SIGNATURE] = signature(webhook.secret, body, clock.now())
    return headers

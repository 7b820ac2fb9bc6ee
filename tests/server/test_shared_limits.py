"""Limits of a key at two real servers of one home: together no more than stated, also when one is killed."""

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import servable
from faults.test_drain import running
from servable.registry.shares import LASTING_S
from servable.server.dividing import SETTLE_S
from servable.workflows.keys import create_key
from serving.making import EXAMPLE, publish_iris

RATE = 200
BODY = json.dumps({"inputs": [EXAMPLE]})


def key_of(home: Path, **limits: object) -> str:
    return str(create_key("ci", ["predict:iris"], home=home, **limits).key)  # type: ignore[arg-type]


class Caller(threading.Thread):
    """Asks a server again and again for some seconds, far more often than is allowed, or until it is gone.

    Attributes:
        answered: when each answer came, in seconds of the monotonic clock.
        refused: how many requests were refused.
    """

    def __init__(self, url: str, key: str, seconds: float) -> None:
        super().__init__()
        self.answered: list[float] = []
        self.refused = 0
        self._url, self._headers = url, {"authorization": f"Bearer {key}"}
        self._until = time.monotonic() + seconds

    def run(self) -> None:
        connection = http.client.HTTPConnection(urlsplit(self._url).netloc, timeout=30)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            while time.monotonic() < self._until:
                connection.request("POST", "/models/iris/predict", BODY, self._headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    self.answered.append(time.monotonic())
                else:
                    assert answer.status == 429
                    self.refused += 1


def most(seconds: float) -> float:
    """Requests that may be answered: a window's worth, the rate, and half of both for two seconds at most."""
    return RATE + RATE * seconds + RATE / 2 + RATE / 2 * min(seconds, 2 * SETTLE_S)


def counted(callers: Sequence[Caller], begin: float, end: float) -> int:
    return sum(begin <= at < end for caller in callers for at in caller.answered)


def test_two_servers_of_a_home_answer_a_rate_together(home: Path) -> None:
    publish_iris(home)
    key = key_of(home, rate=f"{RATE}/s")
    with (
        servable.serve(home=home, port=0, background=True) as one,
        servable.serve(home=home, port=0, background=True) as other,
    ):
        began = time.monotonic()
        callers = [Caller(each.url, key, 3.5) for each in (one, other)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        ended = time.monotonic()
    assert all(caller.refused and len(caller.answered) > RATE / 4 for caller in callers)
    assert counted(callers, began, ended) <= most(ended - began)
    # Once they know of each other it is the rate and no more, and most of it.
    settled = counted(callers, began + 2.5, began + 3.5)
    assert 0.6 * RATE <= settled <= 1.1 * RATE


@pytest.mark.soak
def test_the_share_of_a_server_that_is_killed_comes_back_within_seconds(home: Path) -> None:
    publish_iris(home)
    key = key_of(home, rate=f"{RATE}/s")
    back_s = LASTING_S + 3 * SETTLE_S
    with running(home) as (_, one), running(home) as (child, other):
        stays, goes = Caller(one, key, 6 + back_s + 2), Caller(other, key, 60)
        killing = threading.Timer(6, os.kill, (child.pid, signal.SIGKILL))
        for thread in (stays, goes, killing):
            thread.start()
        for thread in (killing, goes, stays):
            thread.join()
    killed, ended = goes.answered[-1], stays.answered[-1]
    assert counted([stays], killed - 2, killed) <= 0.7 * RATE * 2
    assert counted([stays], killed + back_s, ended) >= 0.9 * RATE * (ended - killed - back_s)

"""Alerts told to a real server over a real socket."""

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import servable
from servable.errors import SettingInvalid
from servable.monitoring.alerts import DEFAULT_RULES, Rule
from servable.monitoring.standing import known
from servable.monitoring.standing_metrics import standing_metrics
from servable.registry.findings import Findings
from servable.registry.home import Home, open_home
from servable.testing import FakeClock
from servable.workflows.alerting import BUDGET_S, alerts, raise_alerts, read_rules
from servable.workflows.webhook import EVENT, SIGNATURE, Webhook

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RULE = Rule(name="inputs", measure="drift.inputs")


class Receiver:
    """A server that keeps what it is sent and answers with the statuses it was given, 200 in the end."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((dict(self.headers), body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest.fixture
def place(trained_home: Path) -> Iterator[Home]:
    servable.deploy("iris", home=trained_home)
    with open_home(trained_home, create=False) as home:
        yield home


def found(home: Home, clock: FakeClock, inputs: int, version: int = 1) -> None:
    Findings(home.state, clock).put("iris", "drift", {version: {"inputs": inputs}})


class Pauses:
    """Keeps how long the tries waited, and lets the clock go on by that."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self.clock.advance(seconds)


def test_an_alert_is_posted_signed_once_and_once_more_when_it_is_over(
    place: Home, receiver: Receiver
) -> None:
    clock = FakeClock(NOW)
    hook = Webhook(receiver.url, "secret")

    def look() -> list[str]:
        return [event.happening for event in raise_alerts(place, clock, rules=[RULE], webhook=hook)]

    found(place, clock, 0)
    assert look() == []
    found(place, clock, 2)
    assert look() == ["fired"]
    clock.advance(60)
    token = place.change_token()
    assert look() == []
    assert place.change_token() == token
    found(place, clock, 0)
    assert look() == ["resolved"]
    assert [json.loads(body)["happening"] for _, body in receiver.got] == ["fired", "resolved"]
    headers, body = receiver.got[0]
    stamp, _, given = headers[SIGNATURE].partition(",v1=")
    assert stamp == f"t={int(NOW.timestamp())}"
    signed = f"{stamp[2:]}.".encode() + body
    assert given == hmac.new(b"secret", signed, hashlib.sha256).hexdigest()
    message = json.loads(body)
    assert headers[EVENT] == message["id"]
    assert (message["model"], message["version"], message["value"]) == ("iris", 1, 2.0)


def test_a_server_that_fails_is_tried_again_at_once_with_pauses(place: Home, receiver: Receiver) -> None:
    clock = FakeClock(NOW)
    pauses = Pauses(clock)
    receiver.statuses = [500, 429]
    found(place, clock, 1)
    raise_alerts(place, clock, rules=[RULE], webhook=Webhook(receiver.url), wait=pauses)
    assert len(receiver.got) == 3
    assert pauses.seconds == [0.25, 0.5]
    assert len({headers[EVENT] for headers, _ in receiver.got}) == 1
    assert SIGNATURE not in receiver.got[0][0]


def test_what_could_not_be_told_is_told_later_in_order(place: Home, receiver: Receiver) -> None:
    clock = FakeClock(NOW)
    pauses = Pauses(clock)
    hook = Webhook(receiver.url)
    receiver.statuses = [503] * 3
    found(place, clock, 1)
    raise_alerts(place, clock, rules=[RULE], webhook=hook, wait=pauses)
    found(place, clock, 0)
    # Too early for another try; what happened meanwhile waits behind it.
    raise_alerts(place, clock, rules=[RULE], webhook=hook, wait=pauses)
    assert len(receiver.got) == 3
    assert alerts(home=place.path).owed == 2
    clock.advance(30)
    raise_alerts(place, clock, rules=[RULE], webhook=hook, wait=pauses)
    assert [json.loads(body)["happening"] for _, body in receiver.got[3:]] == ["fired", "resolved"]
    assert alerts(home=place.path).owed == 0


def test_a_server_that_does_not_want_an_alert_is_not_asked_again(place: Home, receiver: Receiver) -> None:
    clock = FakeClock(NOW)
    receiver.statuses = [404]
    found(place, clock, 1)
    raise_alerts(place, clock, rules=[RULE], webhook=Webhook(receiver.url))
    clock.advance(600)
    raise_alerts(place, clock, rules=[RULE], webhook=Webhook(receiver.url))
    assert len(receiver.got) == 1


def test_nobody_listening_costs_no_more_than_the_budget(place: Home, receiver: Receiver) -> None:
    clock = FakeClock(NOW)
    pauses = Pauses(clock)
    url = receiver.url
    receiver.close()
    rules = [Rule(name=f"rule-{place}", measure="drift.inputs") for place in range(30)]
    found(place, clock, 1)
    began = clock.monotonic()
    assert len(raise_alerts(place, clock, rules=rules, webhook=Webhook(url), wait=pauses)) == 30
    assert clock.monotonic() - began <= BUDGET_S
    assert alerts(home=place.path).owed == 30
    # The fixture closes it once more, which must find a server.
    receiver.__init__()


def test_alerts_stand_in_the_log_and_in_the_metrics(
    place: Home, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SERVABLE_ALERT_WEBHOOK", raising=False)
    clock = FakeClock(NOW)
    found(place, clock, 3)
    with caplog.at_level("INFO", logger="servable.alerts"):
        raise_alerts(place, clock, rules=[RULE])
    assert "inputs fires for iris:1" in caplog.text
    families = {family.name: family for family in standing_metrics(known(Findings(place.state, clock).of))}
    family = families["servable_alert_firing"]
    assert [(sample.labels, sample.value) for sample in family.samples] == [
        ({"model": "iris", "version": "1", "alert": "inputs"}, 1.0)
    ]
    outcome = alerts(home=place.path)
    assert outcome.rules == DEFAULT_RULES
    assert [(row.alert, row.status, row.value, row.since) for row in outcome.states] == [
        ("inputs", "firing", 3.0, "2026-03-01T12:00:00Z")
    ]


def test_what_fired_for_a_model_that_is_served_no_longer_is_resolved(place: Home) -> None:
    clock = FakeClock(NOW)
    found(place, clock, 3)
    raise_alerts(place, clock, rules=[RULE])
    place.deployments.undeploy("iris")
    assert [event.happening for event in raise_alerts(place, clock, rules=[RULE])] == ["resolved"]
    assert alerts(home=place.path).states == ()


def test_rules_come_from_the_file_of_settings(tmp_path: Path) -> None:
    assert read_rules({}, tmp_path) == DEFAULT_RULES
    (tmp_path / "servable.toml").write_text(
        '[server]\nport = 9000\n\n[[alerts]]\nname = "a"\nmeasure = "drift.share"\nthreshold = 0.2\n'
    )
    assert read_rules({}, tmp_path) == (Rule(name="a", measure="drift.share", threshold=0.2),)
    (tmp_path / "servable.toml").write_text("[[alerts]\n")
    with pytest.raises(SettingInvalid, match="TOML"):
        read_rules({}, tmp_path)

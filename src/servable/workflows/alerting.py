"""Alerts acted on: rules held against what the registry knows, and told to a log and a webhook.

What is so and what is still to be told lies in the registry, under version 0 of each model, and is written
before anything is sent: a message may come twice after a kill, with the same id, and is never lost.
"""

import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from servable.clock import Clock, SystemClock
from servable.errors import SettingInvalid
from servable.logs import fields, logger
from servable.monitoring.alert_rules import rules_of
from servable.monitoring.alerts import AlertState, Event, Rule, Subject, decide, measures_of
from servable.registry.findings import Findings
from servable.registry.home import Home
from servable.settings import config_path, load_settings
from servable.workflows.homes import opened
from servable.workflows.monitored import AlertRow, alert_row
from servable.workflows.webhook import Webhook, deliver

_log = logger("alerts")
#: The kind of the findings.
ALERTS = "alerts"
#: Seconds that one call may spend on a webhook.
BUDGET_S = 5.0
#: After a failure the next try waits so long, then twice as long, up to an hour.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 30.0, 3600.0
#: A message that could not be delivered for so long is given up.
_GIVEN_UP_S = 24 * 3600.0
#: Most messages of one model that wait; older ones are given up first.
_MOST_OWED = 100


class Owed(msgspec.Struct, frozen=True, kw_only=True):
    """A message that is still to be delivered.

    Attributes:
        event: the message.
        began: when it happened, seconds since 1970.
        tries: calls that failed so far.
        next_at: when to try again.
    """

    event: Event
    began: float
    tries: int = 0
    next_at: float = 0.0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """The alerts of one model as the registry keeps them: what is so, and what is still to be told."""

    states: tuple[AlertState, ...] = ()
    owed: tuple[Owed, ...] = ()


class AlertsOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of ``alerts``: the rules, their states, and how many messages wait."""

    rules: tuple[Rule, ...]
    states: tuple[AlertRow, ...]
    owed: int = 0


def read_rules(environment: Mapping[str, str] | None = None, folder: Path | None = None) -> tuple[Rule, ...]:
    """The rules of ``servable.toml``; the built-in ones where it has none or is not there.

    Raises:
        SettingInvalid: the file cannot be read, or a rule cannot be used.
    """
    path = config_path(environment, folder)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        content = {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingInvalid(f"{path} cannot be read as TOML: {error}.") from error
    return rules_of(content, str(path))


def read_webhook() -> Webhook | None:
    """Where alerts are told, by the settings; None for nowhere.

    Raises:
        SettingInvalid: the settings cannot be read.
    """
    settings = load_settings()
    return Webhook(settings.alert_webhook, settings.alert_key) if settings.alert_webhook else None


def raise_alerts(
    home: Home,
    clock: Clock,
    *,
    rules: Sequence[Rule] | None = None,
    webhook: Webhook | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> tuple[Event, ...]:
    """Look at every rule once, and tell what is new. Cheap when nothing changed.

    On a webhook that does not answer it spends at most ``BUDGET_S`` and one try.

    Args:
        home: open.
        clock: says for how long something has been so.
        rules: in place of those of ``servable.toml``.
        webhook: in place of that of the settings.
        wait: pauses between the tries of a call.

    Returns:
        What happened just now.

    Raises:
        SettingInvalid: the settings cannot be read.
        StorageFull: no space left.
        StorageFailed: the registry cannot be read or written.
    """
    asked = read_rules() if rules is None else tuple(rules)
    target = webhook or read_webhook()
    findings = Findings(home.state, clock)
    before = {each.model: _standing(each.value) for each in findings.of(ALERTS)}
    measured = _measures(home, findings, asked)
    until = clock.monotonic() + BUDGET_S
    happened: list[Event] = []
    for model in sorted({*before, *measured}):
        old = before.get(model, Standing())
        decision = decide(asked, measured.get(model, {}), old.states, clock.now())
        for event in decision.events:
            _log.log(
                30 if event.happening != "resolved" else 20,
                event.text,
                extra=fields(alert=event.alert, model=event.model, version=event.version),
            )
        happened += decision.events
        began = clock.now().timestamp()
        new = [Owed(event=event, began=began) for event in decision.events] if target is not None else []
        standing = Standing(states=decision.states, owed=(*old.owed, *new)[-_MOST_OWED:])
        _keep(findings, model, standing, old)
        if target is not None and standing.owed:
            told = _told(standing, target, clock, until, wait)
            _keep(findings, model, told, standing)
    return tuple(happened)


def _measures(
    home: Home, findings: Findings, rules: Sequence[Rule]
) -> dict[str, dict[Subject, dict[str, float]]]:
    """The measures of every version that answers, by model."""
    kinds = sorted({rule.measure.partition(".")[0] for rule in rules} - {ALERTS})
    known = {kind: {(each.model, each.version): each.value for each in findings.of(kind)} for kind in kinds}
    found: dict[str, dict[Subject, dict[str, float]]] = {}
    for deployment in home.deployments.all():
        versions = {deployment.version, *(share.version for share in deployment.traffic.shares)}
        for version in sorted(versions):
            here = {
                kind: values[deployment.model, version]
                for kind, values in known.items()
                if (deployment.model, version) in values
            }
            found.setdefault(deployment.model, {})[Subject(deployment.model, version)] = measures_of(here)
    return found


def _told(
    standing: Standing, webhook: Webhook, clock: Clock, until: float, wait: Callable[[float], None]
) -> Standing:
    """What is left after delivering what is due; the order of messages is kept."""
    left: list[Owed] = []
    for owed in standing.owed:
        now = clock.now().timestamp()
        if left or owed.next_at > now or clock.monotonic() > until:
            # What happened later must not be heard of earlier.
            left.append(owed)
            continue
        if deliver(webhook, owed.event, clock, until=until, wait=wait) != "later":
            continue
        if now - owed.began > _GIVEN_UP_S:
            _log.error("alert could not be delivered", extra=fields(alert=owed.event.alert))
            continue
        pause = min(_FIRST_WAIT_S * 2**owed.tries, _LONGEST_WAIT_S)
        left.append(msgspec.structs.replace(owed, tries=owed.tries + 1, next_at=now + pause))
    return msgspec.structs.replace(standing, owed=tuple(left))


def _keep(findings: Findings, model: str, new: Standing, old: Standing) -> None:
    if new == old:
        return
    empty = new == Standing()
    findings.put(model, ALERTS, {} if empty else {0: msgspec.to_builtins(new)})


def _standing(value: Mapping[str, Any]) -> Standing:
    try:
        return msgspec.convert(dict(value), type=Standing)
    except msgspec.ValidationError:
        # Written by another version of Servable; beginning anew tells once more what still goes on.
        return Standing()


def alerts(*, home: str | Path | None = None) -> AlertsOutcome:
    """The rules, and what they said when they were last looked at.

    Args:
        home: the folder of the registry; looked up when None.

    Raises:
        FileMissing: there is no home.
        SettingInvalid: the settings or a rule cannot be read.
        StorageFailed: the registry cannot be read.
    """
    rules = read_rules()
    with opened(home) as place:
        standing = [_standing(each.value) for each in Findings(place.state, SystemClock()).of(ALERTS)]
    rows = tuple(alert_row(state) for each in standing for state in each.states)
    return AlertsOutcome(rules=rules, states=rows, owed=sum(len(each.owed) for each in standing))

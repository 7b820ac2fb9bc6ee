"""``deploy --canary``, ``--shadow``, ``--bandit`` and ``rollout``: versions that take over step by step."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from servable.clock import SystemClock
from servable.errors import NotFoundError, SettingInvalid
from servable.registry.home import Home
from servable.registry.references import parse_reference
from servable.registry.rollout_records import HELD, RolloutRecord
from servable.rollout.controller import decide, following, known, steer
from servable.rollout.evidence import Comparison, Evidence
from servable.rollout.plan import Hold
from servable.rollout.spec import Spec, made_spec, read_spec, seconds_of_text, steps_of
from servable.rollout.starting import BANDIT, start_bandit, start_canary, start_shadow
from servable.workflows.homes import opened
from servable.workflows.rollout_outcomes import RolloutOutcome
from servable.workflows.signers import check_signature
from servable.workflows.sources import need_extra

Action = Literal["advance", "hold", "resume", "abort"]


class Wish(NamedTuple):
    """How a version is to take over; at most one of the first three says something.

    Attributes:
        canary: shares in percent, rising, or a text such as ``1,5,25,100``.
        shadow: whether it only gets copies of requests.
        bandit: versions that share the requests by what their answers are worth.
        every: time that a step lasts at least, in seconds or such as ``10m``.
        min_requests: requests that a step needs.
        max_error_rate: share of failed requests above which it goes back.
        patience: time after which a step that could not be passed waits for a person.
        mirror: share of the requests that a shadow gets copies of.
    """

    canary: str | Sequence[float] | None = None
    shadow: bool = False
    bandit: Sequence[int] | None = None
    every: str | float | None = None
    min_requests: int | None = None
    max_error_rate: float | None = None
    patience: str | float | None = None
    mirror: float | None = None

    @property
    def said(self) -> bool:
        """Whether a rollout is wished for.

        Raises:
            SettingInvalid: several kinds at once, or a part without a kind.
        """
        kinds = [self.canary is not None, self.shadow, self.bandit is not None]
        if sum(kinds) > 1:
            raise SettingInvalid("A rollout is a canary, a shadow or a bandit; name one of them.")
        steps = (self.every, self.min_requests, self.max_error_rate, self.patience)
        if not any(kinds) and any(part is not None for part in (*steps, self.mirror)):
            raise SettingInvalid(
                "Steps, requests, patience and mirroring belong to a rollout; "
                "add --canary, --shadow or --bandit."
            )
        if self.mirror is not None and not self.shadow:
            raise SettingInvalid("The share that is mirrored belongs to a shadow; add --shadow.")
        return any(kinds)

    @property
    def spec(self) -> Spec:
        """As the plan wants it.

        Raises:
            SettingInvalid: a value that cannot be used.
        """
        steps = self.canary or ()
        every_s = 600.0 if self.every is None else seconds_of_text(self.every)
        return made_spec(
            steps_of(steps) if isinstance(steps, str) else steps,
            every_s=every_s,
            min_requests=200 if self.min_requests is None else self.min_requests,
            max_error_rate=self.max_error_rate,
            patience_s=None if self.patience is None else seconds_of_text(self.patience),
        )


def begin(home: Home, reference: str, wish: Wish) -> RolloutOutcome:
    """Begin the rollout that is wished for. Every file of the packages is verified first.

    Args:
        home: an open home.
        reference: of the version; of a bandit the model counts.
        wish: of which something is said.

    Raises:
        ModelNotFound: there is no such model.
        VersionNotFound: it has no such version.
        ConflictError: it is not deployed, another rollout of it goes on, or this version is deployed already.
        SettingInvalid: a value that cannot be used; nothing was changed.
        ArtifactTampered: a file of a package differs from its digest; nothing was changed.
        SignatureRefused: only signed versions get requests here, and this is none; nothing was changed.
    """
    spec, clock = wish.spec, SystemClock()
    if wish.bandit is not None:
        model = parse_reference(reference).model
        for number in wish.bandit:
            check_signature(home, home.models.resolve(f"{model}:{number}"))
        return outcome(home, start_bandit(home, clock, model, wish.bandit, spec))
    version = home.models.resolve(reference)
    check_signature(home, version)
    if wish.shadow:
        mirrored = 1.0 if wish.mirror is None else wish.mirror
        return outcome(home, start_shadow(home, clock, version.model, version.version, mirrored, spec))
    return outcome(home, start_canary(home, clock, version.model, version.version, spec))


def show_rollout(
    name: str, *, report: str | Path | None = None, home: str | Path | None = None
) -> RolloutOutcome:
    """The rollout of a model that goes on, or its last one: steps, evidence, what follows and why.

    Args:
        name: a model.
        report: where to write it as a page for people; None writes none.
        home: the folder of the registry; looked up when None.

    Raises:
        ModelNotFound: there is no such model.
        NotFoundError: it never had a rollout.
        DependencyMissing: the page needs the extra ``train``.
        StorageFull: no space left for the page.
        StorageFailed: the page cannot be written, or the registry does not answer.
    """
    if report is not None:
        need_extra()
    with opened(home) as place:
        record = newest(place, name)
        found = outcome(place, record)
    if report is not None:
        from servable.training.pages import write
        from servable.workflows.rollout_page import render

        write(report, render(found, record.course.looks))
    return found


def change_rollout(name: str, action: Action, *, home: str | Path | None = None) -> RolloutOutcome:
    """Decide about a rollout that goes on.

    Args:
        name: a model.
        action: ``advance`` lets the next step begin, or after the last one deploys the challenger; of a
            bandit it deploys the version with the largest share; ``hold`` keeps the step until ``resume``,
            but a challenger that turns out worse still goes back; ``abort`` lets the champion answer
            everything.
        home: the folder of the registry; looked up when None.

    Raises:
        ModelNotFound: there is no such model.
        ConflictError: no rollout of it goes on.
        SettingInvalid: there is no such action.
        ArtifactTampered: a file of a package that would get more requests differs from its digest.
        SignatureRefused: only signed versions get requests here, and one that would get more is none.
    """
    if action not in ("advance", "hold", "resume", "abort"):
        raise SettingInvalid(f"A rollout can advance, hold, resume or abort, not {action!r}.")
    with opened(home) as place:
        place.models.resolve(name)
        # What was in order when it began may not be any more: a key can be trusted no longer.
        for version in _fed(place, name, action):
            check_signature(place, place.models.resolve(f"{name}:{version}"))
        return outcome(place, steer(place, SystemClock(), name, action))


def _fed(home: Home, name: str, action: Action) -> tuple[int, ...]:
    """The versions that get requests, or go on getting them, because a person lets a rollout go on."""
    for record in home.rollouts.going_on():
        if record.model == name and action == "advance":
            return (following(record)[0].challenger,)
        if record.model == name and action == "resume":
            return tuple(version for version in record.course.versions if version != record.champion)
    return ()


def newest(home: Home, name: str) -> RolloutRecord:
    """The rollout of a model that goes on, or its last one.

    Raises:
        ModelNotFound: there is no such model.
        NotFoundError: it never had a rollout.
    """
    home.models.resolve(name)
    records = home.rollouts.of(name)
    if not records:
        raise NotFoundError(
            f"There was no rollout of {name}; begin one with: "
            f"servable deploy {name}:VERSION --canary 1,5,25,100"
        )
    return records[0]


def outcome(home: Home, record: RolloutRecord) -> RolloutOutcome:
    """A rollout with what is known of it now."""
    clock, spec = SystemClock(), read_spec(record.course.spec)
    evidence = known(home, clock, record)
    waits = ""
    comparisons: tuple[Comparison, ...] = ()
    if record.kind != BANDIT:
        decision = decide(record, evidence, clock.now().timestamp())
        comparisons = decision.comparisons
        if record.going_on and isinstance(decision, Hold):
            waits = decision.reason
    events = record.course.events
    if record.state == HELD or not record.going_on:
        waits = events[-1].reason
    return RolloutOutcome(
        id=record.id,
        model=record.model,
        kind=record.kind,
        champion=record.champion,
        challenger=record.challenger,
        state=record.state,
        started_at=record.started_at,
        ended_at=record.ended_at,
        steps=spec.steps,
        step=record.course.step,
        every_s=spec.every_s,
        weights={str(version): weight for version, weight in record.course.weights.items()},
        requests=_requests(record, evidence),
        reason=waits,
        comparisons=comparisons,
        events=events,
    )


def _requests(record: RolloutRecord, evidence: Evidence) -> dict[str, tuple[int, int]]:
    """Requests and errors of both since it began."""
    versions: Iterable[int] = (record.champion, record.challenger)
    return {
        str(version): (seen.requests, seen.errors)
        for version, seen in zip(versions, evidence.whole, strict=True)
    }


def ended_badly(found: RolloutOutcome) -> bool:
    """Whether the challenger was sent back."""
    return found.state == "rolled_back"

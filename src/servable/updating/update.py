"""``update``: one turn of the loop when it is due, or what is left of one that was killed."""

import time
from collections.abc import Sequence
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from servable.artifact.recipe import read_recipe
from servable.clock import Clock, SystemClock
from servable.errors import ServableError
from servable.monitoring.segment_cache import SegmentCache
from servable.progress import NoProgress, Progress
from servable.registry.home import Home
from servable.registry.records import WHOLE, VersionRecord
from servable.registry.rollout_records import PROMOTED, ROLLED_BACK
from servable.registry.turns import TurnRecord, Turns, TurnState
from servable.updating import collect, gate, staging, steps
from servable.updating.actions import ACTIONS
from servable.updating.lock import alone
from servable.updating.options import UpdateOptions, restored, stored
from servable.updating.plan import Due, Seen, Triggers, due, left, next_turn
from servable.updating.signs import Signs, drifting, signs
from servable.workflows.homes import opened
from servable.workflows.signers import signer_of


class UpdateOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of asking for an update.

    Attributes:
        model: its name.
        due: whether a turn was due, or one was left to go on with.
        reason: why, or what is waited for.
        turn: the turn; None where none was due.
        said: how it ended, in one sentence.
    """

    model: str
    due: bool
    reason: str
    turn: TurnRecord | None = None
    said: str = ""


def update(
    name: str,
    options: UpdateOptions | None = None,
    *,
    home: str | Path | None = None,
    progress: Progress | None = None,
    clock: Clock | None = None,
    known: SegmentCache | None = None,
) -> UpdateOutcome:
    """Make the next version of a model from its recipe and its labelled traffic, if that is due.

    A turn that was interrupted is gone on with first, as it was begun.

    Args:
        name: the model.
        options: when it is due, what is learned from, and what the new version must reach.
        home: the folder of the registry; looked up when None.
        progress: told of every stage.
        clock: tells the time.
        known: what was read of captured traffic before; the same at every call, or None to read all of it.

    Raises:
        ModelNotFound: there is no such model.
        ConflictError: the model is being updated already, or was deployed anew meanwhile.
        SettingInvalid: the options or the model do not allow it.
        DataError: the rows cannot be learned from.
        SignatureRefused: what is deployed must be signed here, and there is no key, or one not trusted.
        ServableError: whatever a step raised; the turn's record keeps it, and what is served is as before.
    """
    asked, watched, now = options or UpdateOptions(), progress or NoProgress(), clock or SystemClock()
    gate.check(asked.gate)
    with opened(home) as place, alone(place, name, now) as check:
        turns = Turns(place.state, now)
        turn = turns.unfinished(name)
        if turn is not None and turn.state == "waiting":
            return settled(place, turns, turn)
        if turn is None:
            verdict, champion, found = looked(place, name, asked, now, known)
            if not verdict.now:
                return UpdateOutcome(model=name, due=False, reason=verdict.reason)
            turn = turns.begin(name, {
                "reason": verdict.reason, "options": stored(asked), "champion": champion.version,
                "signs": found._asdict(),
                "drifting": drifting(place, champion),
            })  # fmt: skip
        turn = _Course(place, turns, turn, watched, now, check).run()
        return UpdateOutcome(
            model=name, due=True, reason=turn.record["reason"], turn=turn, said=turn.record.get("said", "")
        )


def history(name: str, *, count: int = 20, home: str | Path | None = None) -> tuple[TurnRecord, ...]:
    """The last turns of a model, the newest first.

    Args:
        name: the model.
        count: how many at most.
        home: the folder of the registry; looked up when None.

    Raises:
        ModelNotFound: there is no such model.
    """
    with opened(home) as place:
        place.models.get(name)
        return Turns(place.state, SystemClock()).newest(name, count)


def made(name: str, number: int, *, home: str | Path | None = None) -> TurnRecord:
    """One turn of a model.

    Args:
        name: the model.
        number: of the turn.
        home: the folder of the registry; looked up when None.

    Raises:
        ModelNotFound: there is no such model.
        NotFoundError: it has no such turn.
    """
    with opened(home) as place:
        place.models.get(name)
        return Turns(place.state, SystemClock()).get(name, number)


class Looked(NamedTuple):
    """What is known before a turn: whether it is due, which version is to be beaten, and what was found."""

    due: Due
    champion: VersionRecord
    signs: Signs


def looked(
    home: Home, name: str, options: UpdateOptions, clock: Clock, known: SegmentCache | None = None
) -> Looked:
    """Whether a turn is due, the version that the next one has to beat, and what monitoring found about it.

    Args:
        home: where.
        name: the model.
        options: what makes a turn due.
        clock: tells the time.
        known: see ``update``.

    Raises:
        ModelNotFound: there is no such model.
        SettingInvalid: it is none that can be trained again.
    """
    champion = champion_of(home, name)
    found = signs(home, champion)
    deployment = home.deployments.get(name)
    if deployment is not None and deployment.traffic != WHOLE:
        # Which of the versions is the one to beat is being found out.
        divided = "its requests are divided among versions, or copied to one; that has to end first"
        return Looked(Due(False, divided), champion, found)
    package = home.package(champion)
    collect.check_kind(
        package.signature, read_recipe(package.folder), champion.reference, online=options.online
    )
    turns = Turns(home.state, clock).newest(name)
    seen = Seen(
        fresh=0 if options.triggers.always else collect.fresh(home, name, labelled_until(turns), known),
        since_s=since_s(turns, clock),
        now=clock.now(),
        after=_after(turns, champion),
        failures=failures(turns),
        drift=found.drift,
        quality=found.quality,
    )
    return Looked(due(options.triggers, seen), champion, found)


def scheduled(home: Home, name: str, triggers: Triggers, clock: Clock) -> datetime | None:
    """When the next turn of a model is due by time alone; None where time makes none due.

    Raises:
        ModelNotFound: there is no such model.
        SettingInvalid: no schedule, or no time zone.
    """
    champion, turns = champion_of(home, name), Turns(home.state, clock).newest(name)
    seen = Seen(fresh=0, since_s=since_s(turns, clock), now=clock.now(), after=_after(turns, champion))
    return next_turn(triggers, seen)


def _after(turns: Sequence[TurnRecord], champion: VersionRecord) -> datetime:
    """When the last turn began; without any, when the present version was made."""
    return datetime.fromisoformat(turns[0].started_at if turns else champion.created_at)


def settled(home: Home, turns: Turns, turn: TurnRecord) -> UpdateOutcome:
    """End a turn whose rollout has ended; else say that it goes on.

    What a canary promoted took over; what was rolled back or cancelled stays registered.
    """
    number, version = turn.record["deploy"]["rollout"], turn.record["register"]["version"]
    found = next((record for record in home.rollouts.of(turn.model) if record.id == number), None)
    named = f"{turn.model}:{version}"
    if found is not None and not found.ended_at:
        return UpdateOutcome(model=turn.model, due=False, reason=f"the rollout of {named} goes on")
    state = "cancelled" if found is None else found.state
    ends: dict[str, tuple[TurnState, str]] = {
        PROMOTED: ("promoted", f"{named} took over"),
        ROLLED_BACK: ("rolled_back", f"{named} was rolled back by its rollout"),
    }
    end, said = ends.get(state, ("registered", f"{named} is registered, and its rollout was cancelled"))
    turn = turns.advance(turn, {**turn.record, "said": said}, state=end)
    return UpdateOutcome(model=turn.model, due=True, reason=turn.record["reason"], turn=turn, said=said)


def labelled_until(turns: Sequence[TurnRecord]) -> int:
    """The newest label that a turn took up, in microseconds since 1970; 0 for none.

    Args:
        turns: the newest first. What failed took up nothing.
    """
    for turn in turns:
        if turn.state != "failed" and "collect" in turn.record:
            return collect.microseconds_of(turn.record["collect"]["labelled_until"])
    return 0


def since_s(turns: Sequence[TurnRecord], clock: Clock) -> float | None:
    """Seconds since the last turn began; None without any."""
    if not turns:
        return None
    began = collect.microseconds_of(turns[0].started_at) / 1e6
    return max(clock.now().timestamp() - began, 0.0)


def failures(turns: Sequence[TurnRecord]) -> int:
    """How many of the last turns failed, one after the other."""
    return len(list(takewhile(lambda turn: turn.state == "failed", turns)))


def champion_of(home: Home, name: str) -> VersionRecord:
    """The version that is deployed; the newest where none is.

    Raises:
        ModelNotFound: there is no such model.
    """
    deployment = home.deployments.get(name)
    return home.models.resolve(name if deployment is None else f"{name}:{deployment.version}")


class _Course:
    """The way of one turn from where it stands to its end."""

    def __init__(
        self, home: Home, turns: Turns, turn: TurnRecord, progress: Progress, clock: Clock, check: Any
    ) -> None:
        self._home = home
        self._turns = turns
        self._turn = turn
        self._progress = progress
        self._clock = clock
        self._check = check
        self._staging = staging.Staging(home.path, turn.model, turn.id)

    def run(self) -> TurnRecord:
        """Do the steps that are left, each kept before the next begins."""
        try:
            self._staging.open()
            for step in left(self._resumed()):
                self._step(step)
                if self._turn.state != "running":
                    break
        except Exception as error:
            self._fail(error)
            raise
        self._staging.clear()
        return self._turn

    def _resumed(self) -> str:
        """The last finished step whose outcome is still here; the folder may be another machine's."""
        step, record = self._turn.step, self._turn.record
        if not step or step in ("register", "deploy"):
            return step
        if steps.registered_by(self._home, self._turn.model, self._turn.id) is not None:
            # Registering took the package away, and was killed before it could say so.
            return step
        here = self._staging.finished
        for needed, before in (("collect", ""), ("train", "collect"), ("optimise", "gate")):
            if needed in record and needed in _upto(step) and needed not in here:
                return before
        return step

    def _step(self, step: str) -> None:
        started = time.monotonic()
        found = ACTIONS[step](self._work())
        said = {**found.said, "seconds": round(time.monotonic() - started, 3)}
        record = {**self._turn.record, step: said}
        if found.why:
            record["said"] = found.why
        self._check()
        self._turn = self._turns.advance(self._turn, record, step=step, state=found.state)

    def _fail(self, error: Exception) -> None:
        """Keep why the turn failed; what cannot be kept is found unfinished and gone on with later."""
        said = error.message if isinstance(error, ServableError) else f"{type(error).__name__}: {error}"
        try:
            # Whoever has the model now goes on with the turn.
            self._check()
            self._turn = self._turns.advance(self._turn, {**self._turn.record, "said": said}, state="failed")
        except ServableError:
            return
        self._staging.clear()

    def _work(self) -> steps.Work:
        record = self._turn.record
        champion = self._home.models.resolve(f"{self._turn.model}:{record['champion']}")
        package = self._home.package(champion)
        options = restored(record["options"])
        # Asked before anything is learned, so that a turn does not end with a version that nobody may serve.
        deploys = options.deploy != "never" and self._home.deployments.get(self._turn.model) is not None
        recipe = collect.check_kind(
            package.signature, read_recipe(package.folder), champion.reference, online=options.online
        )
        return steps.Work(
            home=self._home,
            staging=self._staging,
            turn=self._turn.id,
            reason=record["reason"],
            champion=champion,
            package=package,
            recipe=recipe,
            options=options,
            record=record,
            progress=self._progress,
            clock=self._clock,
            alone=self._check,
            signer=signer_of(None, self._home.path, deploy=deploys),
        )


def _upto(step: str) -> tuple[str, ...]:
    """The steps up to one, itself among them."""
    rest = left(step)
    return tuple(each for each in ACTIONS if each not in rest)

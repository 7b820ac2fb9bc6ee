"""Rollouts and what servers counted for them. At most one of a model goes on at a time."""

from typing import Any

import msgspec
from sqlalchemy import Connection, delete, insert, select, update

from servable.clock import Clock, timestamp
from servable.errors import ConflictError, NotFoundError
from servable.registry import tables
from servable.registry.audit import written
from servable.registry.rollout_records import (
    CANCELLED,
    RUNNING,
    Counts,
    Course,
    Event,
    Evidence,
    RolloutRecord,
    read_counts,
    read_course,
    stored,
)
from servable.registry.state import State

#: Ended rollouts of a model that are kept.
KEPT = 100


class Rollouts:
    """The rollouts of one registry. Safe to share between threads and processes.

    Methods that write take the connection of a transaction from ``State.writing`` or ``State.aside``,
    because what they write belongs together with desired state. All raise ``StorageFailed`` or
    ``StorageFull`` when the database does.
    """

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock

    def going_on(self) -> tuple[RolloutRecord, ...]:
        """Every rollout that has not ended, by model."""
        table = tables.rollouts
        with self._state.reading() as connection:
            rows = connection.execute(
                select(table).where(table.c.ended_at == "").order_by(table.c.model)
            ).all()
        return tuple(_record(row) for row in rows)

    def of(self, model: str) -> tuple[RolloutRecord, ...]:
        """The rollouts of a model, the newest first."""
        table = tables.rollouts
        with self._state.reading() as connection:
            rows = connection.execute(
                select(table).where(table.c.model == model).order_by(table.c.id.desc())
            ).all()
        return tuple(_record(row) for row in rows)

    def goes_on(self, model: str, connection: Connection) -> RolloutRecord | None:
        """The rollout of a model that has not ended, as this transaction sees it."""
        return going_on(connection, model)

    def get(self, number: int, connection: Connection) -> RolloutRecord:
        """A rollout as this transaction sees it.

        Raises:
            NotFoundError: there is none.
        """
        table = tables.rollouts
        row = connection.execute(select(table).where(table.c.id == number)).first()
        if row is None:
            raise NotFoundError(f"There is no rollout {number}.")
        return _record(row)

    def start(self, record: RolloutRecord, connection: Connection) -> RolloutRecord:
        """Begin a rollout; its number and the moment are filled in.

        Raises:
            ConflictError: another one of the model goes on.
        """
        other = going_on(connection, record.model)
        if other is not None:
            raise ConflictError(
                f"A {other.kind} of {record.model}:{other.challenger} against version {other.champion} goes "
                f"on already; end it with: servable rollout {record.model} --abort"
            )
        table, now = tables.rollouts, timestamp(self._clock.now())
        _forget(connection, record.model)
        number = connection.execute(
            insert(table).values(
                model=record.model,
                kind=record.kind,
                champion=record.champion,
                challenger=record.challenger,
                state=RUNNING,
                started_at=now,
                ended_at="",
                record=stored(record.course),
            )
        ).inserted_primary_key
        begun = msgspec.structs.replace(
            record, id=int(number[0]) if number else 0, state=RUNNING, started_at=now, ended_at=""
        )
        written(connection, self._clock, "rollout.start", **_told(begun))
        return begun

    def save(self, record: RolloutRecord, connection: Connection) -> None:
        """Replace the state, the end and the course of a rollout."""
        _save(connection, record, self._clock)

    def evidence(self, number: int, connection: Connection | None = None) -> tuple[Evidence, ...]:
        """What every server counted for a rollout, by server and version.

        Args:
            number: of the rollout.
            connection: a transaction to read it in; None for one of its own.
        """
        if connection is None:
            with self._state.reading() as own:
                return self.evidence(number, own)
        table = tables.evidence
        rows = connection.execute(
            select(table).where(table.c.rollout == number).order_by(table.c.server, table.c.version)
        )
        return tuple(
            Evidence(
                server=row.server,
                version=row.version,
                updated_at=row.updated_at,
                counts=read_counts(row.counts),
            )
            for row in rows
        )

    def count(self, number: int, server: str, counts: dict[int, Counts]) -> None:
        """Replace what a server counted for a rollout; written twice it counts once.

        Args:
            number: of the rollout.
            server: who counted, unique to one life of one process group.
            counts: by version, since the server learned of the rollout.
        """
        table, now = tables.evidence, timestamp(self._clock.now())
        with self._state.aside() as connection:
            connection.execute(delete(table).where((table.c.rollout == number) & (table.c.server == server)))
            for version, each in sorted(counts.items()):
                connection.execute(
                    insert(table).values(
                        rollout=number, server=server, version=version, updated_at=now, counts=stored(each)
                    )
                )


def going_on(connection: Connection, model: str) -> RolloutRecord | None:
    """The rollout of a model that has not ended, as this transaction sees it."""
    table = tables.rollouts
    row = connection.execute(select(table).where((table.c.model == model) & (table.c.ended_at == ""))).first()
    return None if row is None else _record(row)


def cancel(connection: Connection, model: str, reason: str, clock: Clock, but: int = 0) -> None:
    """End the rollout of a model, if there is one, because a person decided otherwise.

    Args:
        connection: the transaction in which that is written.
        model: the model.
        reason: one sentence.
        clock: what dates it.
        but: the number of one that stays.
    """
    record = going_on(connection, model)
    if record is None or record.id == but:
        return
    now = timestamp(clock.now())
    course = record.course.told(Event(at=now, decision="cancel", step=record.course.step, reason=reason))
    course = msgspec.structs.replace(course, weights={})
    _save(connection, msgspec.structs.replace(record, state=CANCELLED, ended_at=now, course=course), clock)


def _save(connection: Connection, record: RolloutRecord, clock: Clock) -> None:
    table = tables.rollouts
    before = connection.execute(select(table.c.record).where(table.c.id == record.id)).scalar_one_or_none()
    known = read_course(before).events[-1:] if before is not None else ()
    # Looks at the evidence are saved as well; only what is decided is told.
    if record.course.events[-1:] != known:
        written(connection, clock, f"rollout.{record.course.events[-1].decision}", **_told(record))
    connection.execute(
        update(table)
        .where(table.c.id == record.id)
        .values(state=record.state, ended_at=record.ended_at, record=stored(record.course))
    )


def _told(record: RolloutRecord) -> dict[str, Any]:
    """What the audit log says of a rollout: where it stands and its newest decision."""
    told = {
        "rollout": record.id,
        "model": record.model,
        "kind": record.kind,
        "champion": record.champion,
        "challenger": record.challenger,
        "state": record.state,
    }
    events = record.course.events[-1:]
    return told | {"step": events[0].step, "reason": events[0].reason} if events else told


def _forget(connection: Connection, model: str) -> None:
    """Drop the oldest ended rollouts of a model, with their evidence."""
    table, evidence = tables.rollouts, tables.evidence
    old = [
        row.id
        for row in connection.execute(
            select(table.c.id)
            .where((table.c.model == model) & (table.c.ended_at != ""))
            .order_by(table.c.id.desc())
            .offset(KEPT)
        )
    ]
    if old:
        connection.execute(delete(evidence).where(evidence.c.rollout.in_(old)))
        connection.execute(delete(table).where(table.c.id.in_(old)))


def _record(row: Any) -> RolloutRecord:
    course: Course = read_course(row.record)
    return RolloutRecord(
        id=row.id,
        model=row.model,
        kind=row.kind,
        champion=row.champion,
        challenger=row.challenger,
        state=row.state,
        started_at=row.started_at,
        ended_at=row.ended_at,
        course=course,
    )
